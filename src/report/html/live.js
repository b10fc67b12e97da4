(() => {
  const live = document.getElementById("live");
  const say = (state, text) => {
    if (live.textContent !== text) live.textContent = text;
    live.dataset.state = state;
  };

  // An update keeps the reader's focus and the scroll position of each table.
  function replace(id, html) {
    const old = document.getElementById(id);
    const template = document.createElement("template");
    template.innerHTML = html;
    const fresh = template.content.firstElementChild;
    if (!old || !fresh) return;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    const moved = Array.from(old.querySelectorAll(".scroll"), (box) => [box.id, box.scrollLeft, box.scrollTop]);
    old.replaceWith(fresh);
    for (const [box, left, top] of moved) {
      const now = document.getElementById(box);
      if (now) { now.scrollLeft = left; now.scrollTop = top; }
    }
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    document.dispatchEvent(new Event("deskbatch:changed"));
  }

  const source = new EventSource("events?since=" + document.body.dataset.generation);
  const on = (name, act) => source.addEventListener(name, (event) => act(event.data));
  on("live", (text) => say("live", text));
  on("read-error", (text) => say("error", text));
  on("section", (data) => {
    const { id, html } = JSON.parse(data);
    replace(id, html);
  });
  on("over", (text) => {
    source.close();
    say("over", text);
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) say("lost", "disconnected: reload the page");
    else say("lost", "connection lost, reconnecting");
  });
})();
