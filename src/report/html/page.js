"use strict";
(() => {
  const input = document.getElementById("filter");
  const told = document.getElementById("filtered");
  const search = document.getElementById("search");

  // Shows the rows that have every word, in whatever order.
  function filter() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = document.querySelectorAll("#refused tbody tr");
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const found = words.every((word) => text.includes(word));
      row.hidden = !found;
      if (found) shown += 1;
    }
    search.hidden = rows.length === 0;
    told.textContent = words.length ? shown.toLocaleString("en") + " of " + rows.length.toLocaleString("en") : "";
  }

  input.addEventListener("input", filter);
  document.addEventListener("deskbatch:changed", filter);
  filter();
})();
