(() => {
  const live = document.getElementById("live");
  const say = (state, text) => {
    if (live.textContent !== text) live.textContent = text;
    live.dataset.state = state;
  };

  // What a reader has done to the page is kept: where the focus is, and how far a table
  // was moved.
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
  const heard = (name, act) => source.addEventListener(name, (event) => act(event.data));
  heard("live", (text) => say("live", text));
  heard("trouble", (text) => say("trouble", text));
  heard("section", (data) => {
    const { id, html } = JSON.parse(data);
    replace(id, html);
  });
  heard("over", (text) => {
    source.close();
    say("over", text);
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) say("lost", "not connected: reload the page");
    else say("lost", "connection lost, trying again");
  });
})();
