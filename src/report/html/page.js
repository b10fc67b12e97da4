"use strict";
(() => {
  const input = document.getElementById("filter");
  const matches = document.getElementById("filtered");
  const search = document.getElementById("search");

  // Shows the rows that contain every word, in any order.
  function filter() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = document.querySelectorAll("#failed tbody tr");
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const found = words.every((word) => text.includes(word));
      row.hidden = !found;
      if (found) shown += 1;
    }
    search.hidden = rows.length === 0;
    matches.textContent = words.length ? shown.toLocaleString("en") + " of " + rows.length.toLocaleString("en") : "";
  }

  input.addEventListener("input", filter);
  document.addEventListener("deskbatch:changed", filter);
  filter();
})();
