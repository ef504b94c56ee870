// The terminal: shows what the server says of the goods, after each click and whenever follow.js says so.
// It decides nothing itself, and has no texts of its own (see the templates in terminal.html).
"use strict";

// Between two tries where no answer came.
const RETRY_MS = 1000;

const page = document.querySelector("main");
const showcase = document.getElementById("showcase");
const stems = document.getElementById("stems");
const cart = document.getElementById("cart");
const sell = document.getElementById("checkout");
const total = document.getElementById("total");
const message = document.getElementById("message");
const money = new Intl.NumberFormat(page.dataset.language, {
  minimumFractionDigits: 2,
  maximumFractionDigits: 2,
});

// A text of the page's, with its {places} filled in.
const text = (name, values = {}) =>
  document.getElementById("texts").content.querySelector(`[data-text=${name}]`).textContent
    .replace(/\{(\w+)\}/g, (_, place) => values[place]);

// When each hold ends, on this page's own clock: the server says how much is left, so it does not
// matter what time the till believes it is.
const ends = new Map();

async function ask(url, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      "X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value,
    },
    body: JSON.stringify(body),
  };
  const response = await fetch(url, options);
  if (response.status === 401) location.assign(page.dataset.login);
  return { ok: response.ok, ...(await response.json()) };
}

function say(words, kind) {
  message.textContent = words;
  message.className = kind;
  message.hidden = !words;
}

// A list item per thing, made once and kept, so that the focus stays where it is. Its key tells a kit
// from a sort of stems.
function items(list, template, things, fill) {
  const known = new Map([...list.children].map((item) => [item.dataset.key, item]));
  for (const thing of things) {
    let item = known.get(thing.key);
    if (!item) {
      item = document.getElementById(template).content.firstElementChild.cloneNode(true);
      item.dataset.key = thing.key;
      item.dataset[thing.kind] = thing.id;
      list.append(item);
    }
    known.delete(thing.key);
    fill(item, thing);
  }
  for (const item of known.values()) item.remove();
}

function label(item, name) {
  for (const button of item.querySelectorAll("button")) {
    button.setAttribute("aria-label", `${button.title || button.textContent}: ${name}`);
  }
}

function state(kit) {
  if (!kit.is_locked) return kit.taken_by ? "taken" : "free";
  if (kit.held_here) return "mine";
  return kit.locked_by_me ? "elsewhere" : "busy";
}

function fillCard(item, kit) {
  item.dataset.state = state(kit);
  item.style.setProperty("--hue", (kit.id * 67) % 360);
  item.querySelector("h3").textContent = kit.name;
  item.querySelector(".price").textContent = money.format(kit.price);
  item.querySelector(".holder").textContent = kit.holder ?? "";
  item.querySelector(".taker").textContent = kit.taken_by ?? "";
  const button = item.querySelector("button");
  button.disabled = ["mine", "busy", "taken"].includes(item.dataset.state);
  label(item, kit.name);
}

function fillStem(item, stem) {
  const here = stem.held_here ? stem.quantity : 0;
  item.dataset.state = here ? "mine" : stem.left ? "free" : "busy";
  item.dataset.quantity = here;
  item.style.setProperty("--hue", (stem.id * 101 + 340) % 360);
  item.querySelector("h3").textContent = stem.name;
  item.querySelector(".price").textContent = money.format(stem.price);
  item.querySelector(".left").textContent = text("left", stem);
  item.querySelector(".quantity").textContent = here;
  item.querySelector("[data-step='-1']").disabled = here === 0;
  item.querySelector("[data-step='1']").disabled = stem.left === 0;
  label(item, stem.name);
}

const worth = (thing) => Number(thing.price) * (thing.quantity ?? 1);

function fillLine(item, thing) {
  item.dataset.line = thing.line;
  item.classList.toggle("lapsed", !thing.held_here);
  item.querySelector(".name").textContent = thing.name;
  item.querySelector(".pieces").textContent = text(thing.kind === "kit" ? "piece" : "pieces", thing);
  item.querySelector(".price").textContent = money.format(worth(thing));
  label(item, thing.name);
}

function show(answer) {
  const now = performance.now();
  const all = [];
  for (const [kind, things] of [["kit", answer.kits], ["stem", answer.stems]]) {
    for (const thing of things) all.push({ ...thing, kind, key: `${kind}:${thing.id}` });
  }
  ends.clear();
  for (const thing of all) if (thing.remaining_ms) ends.set(thing.key, now + thing.remaining_ms);
  const lines = all.filter((thing) => thing.in_cart);
  items(showcase, "card", all.filter((thing) => thing.kind === "kit" && !thing.sold), fillCard);
  items(stems, "stem", all.filter((thing) => thing.kind === "stem"), fillStem);
  items(cart, "line", lines, fillLine);
  document.getElementById("empty").hidden = lines.length > 0;
  total.parentElement.hidden = lines.length === 0;
  total.textContent = money.format(lines.reduce((sum, thing) => sum + worth(thing), 0));
  sell.disabled = lines.length === 0;
  count();
}

function count() {
  for (const item of document.querySelectorAll("[data-key]")) {
    const left = Math.max(0, Math.ceil((ends.get(item.dataset.key) - performance.now()) / 1000));
    const shown = Number.isNaN(left) ? "" :
      `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    for (const time of item.querySelectorAll("time")) time.textContent = shown;
  }
}

// Answers may overtake each other; an older one than what is shown is dropped.
let asked = 0;
let shown = 0;

async function refresh() {
  const number = ++asked;
  const answer = await ask(page.dataset.kits);
  if (number > shown && answer.kits) {
    shown = number;
    show(answer);
  }
}

async function act(button, url, done, body = {}, asks = ask) {
  button.disabled = true;
  try {
    const answer = await asks(url, body);
    say(answer.ok ? done : answer.message, answer.ok ? "done" : "refused");
    await refresh();
  } catch {
    say(text("offline"), "refused");
  } finally {
    // The refresh has decided about the buttons of cards and of the cart; this is for a failed one.
    if (button.closest(".line")) button.disabled = false;
  }
}

page.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (!button) return;
  const { kit, stem, quantity } = button.closest("[data-key]").dataset;
  if (kit) {
    act(button, `${page.dataset.kits}${kit}/${button.dataset.action}/`, "");
  } else {
    // So many as shall be in the cart; from there on, Remove is none.
    const step = button.dataset.step;
    act(button, page.dataset.setQuantity.replace("/0/", `/${stem}/`), "",
      { quantity: step ? Number(quantity) + Number(step) : 0 });
  }
});

// Asks again where no answer came. That harms nobody: the same lines are sold once, and asked again the
// server answers with the sale that it has made.
async function insist(url, body) {
  for (let times = 1; ; times++) {
    try {
      return await ask(url, body);
    } catch (error) {
      if (times === 10) throw error;
      say(text("offline"), "refused");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

sell.addEventListener("click", () => {
  const lines = [...cart.children].map((item) => Number(item.dataset.line));
  act(sell, page.dataset.checkout, text("sold"), { lines }, insist);
});

setInterval(count, 250);
