"use strict";
const specs = new Map();
function specOf(id) {
  if (!specs.has(id)) specs.set(id, JSON.parse(document.getElementById(id).textContent));
  return specs.get(id);
}
// A plot takes the width of its place, so it is drawn when the place first shows.
function drawVisible() {
  document.querySelectorAll("[data-chart]:not([data-drawn])").forEach((place) => {
    if (!place.offsetParent) return;
    place.dataset.drawn = "";
    vegaEmbed(place, specOf(place.dataset.chart), { actions: false, renderer: "svg" })
      .catch((error) => {
        place.textContent = "This plot could not be drawn: " + error.message;
        console.error(error);
      });
  });
}
function cell(row, tag, value) {
  const made = row.appendChild(document.createElement(tag));
  made.textContent = typeof value === "number" ? Number(value.toPrecision(5)) : String(value ?? "–");
  if (tag === "th") made.scope = "col";
}
const MOST_ROWS = 300;
function fillNumbers(details) {
  if (details.querySelector("table")) return;
  const spec = specOf(details.dataset.numbers);
  const found = (spec.layer || [spec]).map((layer) => layer.data).concat(spec.data)
    .find((data) => data && data.values && data.values.length);
  const rows = found ? found.values : [];
  const box = details.appendChild(document.createElement("div"));
  box.className = "scroll";
  box.tabIndex = 0;
  const table = box.appendChild(document.createElement("table"));
  const caption = table.createCaption();
  caption.textContent = rows.length > MOST_ROWS
    ? "The first " + MOST_ROWS + " of " + rows.length + " rows" : rows.length + " rows";
  if (!rows.length) return;
  const names = Object.keys(rows[0]);
  const head = table.createTHead().insertRow();
  names.forEach((name) => cell(head, "th", name));
  const body = table.createTBody();
  rows.slice(0, MOST_ROWS).forEach((row) => {
    const line = body.insertRow();
    names.forEach((name) => cell(line, "td", row[name]));
  });
}
document.addEventListener("toggle", (event) => {
  if (!event.target.open) return;
  if (event.target.dataset.numbers) fillNumbers(event.target);
  drawVisible();
}, true);
const buttons = document.querySelectorAll("[data-filter]");
function choose(filter) {
  buttons.forEach((button) =>
    button.setAttribute("aria-pressed", String(button.dataset.filter === filter)));
  let shown = 0;
  document.querySelectorAll("details.question").forEach((question) => {
    const wanted = { all: true, attention: ["faulty", "suspect"].includes(question.dataset.verdict),
      undetermined: question.dataset.verdict === "undetermined" }[filter];
    question.hidden = !wanted;
    shown += wanted ? 1 : 0;
  });
  document.querySelectorAll(".stage").forEach((stage) => {
    stage.hidden = !stage.querySelector("details.question:not([hidden])");
  });
  const count = document.getElementById("shown");
  if (count) count.textContent = shown + (shown === 1 ? " question shown" : " questions shown");
}
buttons.forEach((button) => button.addEventListener("click", () => choose(button.dataset.filter)));
if (buttons.length) choose("all");
const unfold = document.getElementById("unfold");
if (unfold) unfold.addEventListener("click", () => {
  const shown = [...document.querySelectorAll("details.question:not([hidden])")];
  const open = shown.some((question) => !question.open);
  shown.forEach((question) => { question.open = open; });
  unfold.textContent = open ? "Close what is shown" : "Open what is shown";
});
// A link to a question opens it, even while a filter hides it.
function follow() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target || !target.matches("details.question")) return;
  if (target.hidden) choose("all");
  target.open = true;
  target.scrollIntoView();
}
window.addEventListener("hashchange", follow);
follow();
const theme = document.getElementById("theme");
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : window.matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
drawVisible();
