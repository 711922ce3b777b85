"use strict";
const dark = window.matchMedia("(prefers-color-scheme: dark)");

// Charts take the page's colours, and its width unless they count their steps.
function draw() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim(), line = style.getPropertyValue("--line").trim();
  const text = { labelColor: ink, titleColor: ink };
  const config = { background: "transparent", view: { stroke: line }, axis: { ...text, gridColor: line, domainColor: line, tickColor: line }, legend: text };
  for (const figure of document.querySelectorAll("figure.chart")) {
    const spec = JSON.parse(figure.querySelector("script").textContent);
    const whole = { width: "container", autosize: { type: "fit-x", contains: "padding" }, ...spec, config };
    if (spec.width) delete whole.autosize;
    vegaEmbed(figure.querySelector(".plot"), whole, { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } });
  }
}
draw();
dark.addEventListener("change", draw);

for (const box of document.querySelectorAll(".table.long")) {
  const body = box.querySelector("tbody"), heads = [...box.querySelectorAll("th")];
  box.querySelector("input").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const key = (row) => { const cell = row.cells[column]; return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value); };
    const empty = (value) => value === "" ? 1 : 0;
    const rows = [...body.rows].sort((one, other) => {
      const a = key(one), b = key(other);
      if (empty(a) || empty(b)) return empty(a) - empty(b);
      if (typeof a === "number" && typeof b === "number") return sign * (a - b);
      return sign * String(a).localeCompare(String(b), "en", { numeric: true });
    });
    body.append(...rows);
  }));
}

for (const pair of document.querySelectorAll(".pair")) {
  const frame = pair.querySelector(".frame");
  pair.querySelector("input").addEventListener("input", (event) => frame.style.setProperty("--at", event.target.value + "%"));
}
