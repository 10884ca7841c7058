"use strict";
// Filters the call sites and functions of the page. Without it the whole page is shown.
(() => {
  const form = document.getElementById("filters");
  const names = ["state", "section", "trampoline"];
  const items = [...document.querySelectorAll(".item")].map((element) => {
    const values = { state: new Set(), section: new Set(), trampoline: new Set(), function: "" };
    for (const holder of element.querySelectorAll("[data-k]")) {
      const { k, v } = holder.dataset;
      if (k === "function") values.function = v.toLowerCase();
      else if (k && v) values[k].add(v);
    }
    if (element.dataset.state) {
      values.state.add(element.dataset.state);
      values.section.add(element.dataset.section);
      values.function = element.dataset.function.toLowerCase();
    }
    return { element, values, text: null };
  });
  const sections = document.querySelectorAll("main > section");
  const folded = [...document.querySelectorAll("details")];
  if (!items.length) return;
  form.hidden = false;
  for (const name of names) {
    const counts = new Map();
    for (const item of items)
      for (const value of item.values[name]) counts.set(value, (counts.get(value) || 0) + 1);
    const select = form.elements[name];
    select.parentElement.hidden = !counts.size;
    for (const [value, count] of [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)))
      select.append(new Option(`${value} (${count.toLocaleString("en")})`, value));
  }
  document.getElementById("folding").hidden = !folded.length;
  const shown = document.getElementById("shown");
  const apply = () => {
    const words = form.elements.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = form.elements.function.value.toLowerCase();
    let count = 0;
    for (const item of items) {
      if (words.length && item.text === null) item.text = item.element.textContent.toLowerCase();
      const fits =
        names.every((name) => {
          const value = form.elements[name].value;
          return !value || item.values[name].has(value);
        }) &&
        item.values.function.includes(wanted) &&
        words.every((word) => item.text.includes(word));
      item.element.hidden = !fits;
      count += fits;
    }
    for (const section of sections)
      section.hidden =
        count < items.length && !section.querySelector(".item:not([hidden])");
    const kept = new URLSearchParams();
    for (const { name, value } of form.elements) if (name && value) kept.set(name, value);
    history.replaceState(null, "", `#${kept}`);
    shown.textContent = `${count.toLocaleString("en")} of ${items.length.toLocaleString("en")} shown`;
  };
  let timer = 0;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(apply, 120);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  const fold = (open) => folded.forEach((details) => (details.open = open));
  document.getElementById("expand").addEventListener("click", () => fold(true));
  document.getElementById("collapse").addEventListener("click", () => fold(false));
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      form.elements.search.focus();
    }
  });
  // A link to the page can say what it shows: page.html#state=refused&search=tcp
  for (const [name, value] of new URLSearchParams(location.hash.slice(1)))
    if (form.elements[name]) form.elements[name].value = value;
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = folded.filter((details) => !details.open);
    fold(true);
  });
  addEventListener("afterprint", () => closed.forEach((details) => (details.open = false)));
  apply();
})();
