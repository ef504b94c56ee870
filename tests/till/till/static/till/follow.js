// Keeps the page up to date: by the server's events, or by asking every second where these break. And
// keeps the cart held while the page is open.
"use strict";

// While events come, it asks now and then all the same: new goods, a price, and a taking that was rolled
// back are no events.
const ASK_MS = { events: 10000, asking: 1000 };
const FOLLOW_AGAIN_MS = 3000;

let asking;
let underway = false;
let again = false;

// Asks now, and once more if there was reason to while it asked: however fast changes come, one question
// is underway.
async function look() {
  if (underway) {
    again = true;
    return;
  }
  underway = true;
  clearTimeout(asking);
  try {
    do {
      again = false;
      await refresh();
    } while (again);
    if (message.textContent === text("offline")) say("", "");
  } catch {
    say(text("offline"), "refused");
  } finally {
    underway = false;
    asking = setTimeout(look, nextLook());
  }
}

// A hold that lapses is no event before it is swept, and one that is just being taken may be none.
function nextLook() {
  if (showcase.querySelector("[data-state=taken]")) return ASK_MS.asking;
  const now = performance.now();
  const lapse = Math.min(...[...ends.values()].filter((end) => end > now).map((end) => end - now + 50));
  return Math.min(ASK_MS[page.dataset.follows], lapse);
}

let events;

// A page that nobody looks at does not follow: a browser has six connections for all of its pages.
function follow() {
  if (document.hidden || events?.readyState < EventSource.CLOSED) return;
  events = new EventSource(page.dataset.events);
  events.onmessage = () => {
    page.dataset.follows = "events";
    look();
  };
  // What has happened meanwhile, asking finds out.
  events.onerror = () => {
    stop();
    look();
    setTimeout(follow, FOLLOW_AGAIN_MS);
  };
}

function stop() {
  events?.close();
  page.dataset.follows = "asking";
}

// Until the holds have come to the longest that is allowed; then the cashier is told, once.
let capped = false;

async function keep() {
  const held = cart.querySelector(".line:not(.lapsed)");
  if (!held) {
    capped = false;
  } else {
    try {
      const answer = await ask(page.dataset.keep, {});
      if (answer.capped && !capped) say(text("capped"), "refused");
      capped = answer.capped;
      look();
    } catch {
      // Followed by a look that says so.
    }
  }
}

document.addEventListener("visibilitychange", () => (document.hidden ? stop() : follow()));
stop();
look();
follow();
setInterval(keep, Number(page.dataset.heartbeat));
