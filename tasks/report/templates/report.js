"use strict";
document.querySelectorAll("[data-chart]").forEach((place) => {
  const spec = JSON.parse(document.getElementById(place.dataset.chart).textContent);
  vegaEmbed(place, spec, { actions: false, renderer: "svg" }).catch((error) => {
    place.textContent = "This plot could not be drawn: " + error.message;
    console.error(error);
  });
});
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
const theme = document.getElementById("theme");
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : window.matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
