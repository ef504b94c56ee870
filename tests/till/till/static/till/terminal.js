// The terminal: shows what the server says of the kits, every second and after each click. It decides
// nothing itself, and has no texts of its own (see the templates in terminal.html).
"use strict";

const REFRESH_MS = 1000;

const page = document.querySelector("main");
const showcase = document.getElementById("showcase");
const cart = document.getElementById("cart");
const sell = document.getElementById("checkout");
const total = document.getElementById("total");
const message = document.getElementById("message");
const money = new Intl.NumberFormat(page.dataset.language, {
  minimumFractionDigits: 2,
  maximumFractionDigits: 2,
});

const text = (name) =>
  document.getElementById("texts").content.querySelector(`[data-text=${name}]`).textContent;

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
  if (response.status === 401) location.reload(); // to the login page
  return { ok: response.ok, ...(await response.json()) };
}

function say(words, kind) {
  message.textContent = words;
  message.className = kind;
  message.hidden = !words;
}

// A list item per kit, made once and kept, so that the focus stays where it is.
function items(list, template, kits, fill) {
  const known = new Map([...list.children].map((item) => [item.dataset.kit, item]));
  for (const kit of kits) {
    const id = String(kit.id);
    let item = known.get(id);
    if (!item) {
      item = document.getElementById(template).content.firstElementChild.cloneNode(true);
      item.dataset.kit = id;
      list.append(item);
    }
    known.delete(id);
    fill(item, kit);
  }
  for (const item of known.values()) item.remove();
}

function state(kit) {
  if (!kit.is_locked) return "free";
  if (kit.held_here) return "mine";
  return kit.locked_by_me ? "elsewhere" : "busy";
}

function fillCard(item, kit) {
  item.dataset.state = state(kit);
  item.style.setProperty("--hue", (kit.id * 67) % 360);
  item.querySelector("h3").textContent = kit.name;
  item.querySelector(".price").textContent = money.format(kit.price);
  item.querySelector(".holder").textContent = kit.holder ?? "";
  const button = item.querySelector("button");
  button.disabled = ["mine", "busy"].includes(item.dataset.state);
  button.setAttribute("aria-label", `${button.textContent}: ${kit.name}`);
}

function fillLine(item, kit) {
  item.classList.toggle("lapsed", !kit.held_here);
  item.querySelector(".name").textContent = kit.name;
  item.querySelector(".price").textContent = money.format(kit.price);
  const button = item.querySelector("button");
  button.setAttribute("aria-label", `${button.textContent}: ${kit.name}`);
}

function show(kits) {
  const now = performance.now();
  ends.clear();
  for (const kit of kits) if (kit.is_locked) ends.set(String(kit.id), now + kit.remaining_ms);
  const lines = kits.filter((kit) => kit.in_cart);
  items(showcase, "card", kits.filter((kit) => !kit.sold), fillCard);
  items(cart, "line", lines, fillLine);
  document.getElementById("empty").hidden = lines.length > 0;
  total.parentElement.hidden = lines.length === 0;
  total.textContent = money.format(lines.reduce((sum, kit) => sum + Number(kit.price), 0));
  sell.disabled = lines.length === 0;
  count();
}

function count() {
  for (const item of document.querySelectorAll("[data-kit]")) {
    const left = Math.max(0, Math.ceil((ends.get(item.dataset.kit) - performance.now()) / 1000));
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
    show(answer.kits);
  }
}

async function act(button, url, done) {
  button.disabled = true;
  try {
    const answer = await ask(url, {});
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
  const kit = button.closest("[data-kit]").dataset.kit;
  act(button, `${page.dataset.kits}${kit}/${button.dataset.action}/`, "");
});

sell.addEventListener("click", () => act(sell, page.dataset.checkout, text("sold")));

async function follow() {
  try {
    await refresh();
    if (message.textContent === text("offline")) say("", "");
  } catch {
    say(text("offline"), "refused");
  }
  setTimeout(follow, REFRESH_MS);
}

setInterval(count, 250);
follow();
