"use strict";
// Without it the page is whole: it sorts tables, and searches and sorts samples.

const numeric = (cell) => Number.parseFloat(cell.textContent.replace("–", ""));

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  for (const [column, heading] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") !== "descending";
      const cells = [...body.rows].map((row) => row.cells[column]);
      const numbers = cells.every((cell) => cell.textContent.trim() === "–" || !Number.isNaN(numeric(cell)));
      const compare = (a, b) => {
        const [x, y] = [a.cells[column], b.cells[column]];
        if (!numbers) return x.textContent.localeCompare(y.textContent);
        // What has no number stands last either way.
        const last = descending ? -Infinity : Infinity;
        const [m, n] = [x, y].map((cell) => (Number.isNaN(numeric(cell)) ? last : numeric(cell)));
        return m === n ? 0 : m - n;
      };
      body.append(...[...body.rows].sort((a, b) => (descending ? compare(b, a) : compare(a, b))));
      for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    });
  }
}

const list = document.getElementById("samples");
if (list) {
  const [search, order, found] = ["search", "order", "found"].map((id) => document.getElementById(id));
  const articles = [...list.children];
  const show = () => {
    const words = search.value.trim().toLowerCase();
    let count = 0;
    for (const article of articles) {
      article.hidden = words !== "" && !article.textContent.toLowerCase().includes(words);
      count += article.hidden ? 0 : 1;
    }
    found.textContent = words === "" ? "" : `${count} of ${articles.length}`;
  };
  search.addEventListener("input", show);
  order?.addEventListener("change", () => {
    const [policy, way] = order.value.split("-");
    const gain = (article) => {
      const value = Number.parseFloat(article.dataset.gains.split(" ")[policy]);
      return Number.isNaN(value) ? 0 : value;
    };
    const place = (article) => Number(article.dataset.place);
    const compare = {
      down: (a, b) => gain(b) - gain(a),
      up: (a, b) => gain(a) - gain(b),
    }[way] ?? ((a, b) => place(a) - place(b));
    list.append(...[...articles].sort(compare));
  });
}
