// Put into the page before its own code, by page.py and by a test: a stream that says what it is told, and a count of frames.
{
  const frames = window.requestAnimationFrame.bind(window);
  const heard = {};
  let drawn = 0;
  const open = new Set();

  let opened;
  const listening = new Promise((go) => (opened = go));
  window.EventSource = class {
    static CLOSED = 2;
    constructor() {
      opened();
    }
    addEventListener(name, call) {
      heard[name] = call;
    }
    close() {}
  };

  /** Count frames, each until it is painted. */
  window.requestAnimationFrame = (call) => {
    const id = frames(async (time) => {
      await call(time);
      await new Promise((go) => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = go;
        port2.postMessage(0);
      });
      drawn += 1;
      open.delete(id);
    });
    open.add(id);
    return id;
  };
  const cancel = window.cancelAnimationFrame.bind(window);
  window.cancelAnimationFrame = (id) => (open.delete(id), cancel(id));

  /** Tell of events, [[name, data]]: the frames until all are shown, and which cells changed. */
  window.tell = async (events) => {
    await listening;
    const changed = new Set();
    const watch = new MutationObserver((seen) => {
      for (const { target } of seen) changed.add(Number((target.nodeType === 1 ? target : target.parentElement)?.closest("[data-cell]")?.dataset.cell ?? -1));
    });
    watch.observe(document.querySelector("table.grid"), { subtree: true, childList: true, characterData: true, attributes: true });
    drawn = 0;
    for (const [name, data] of events) heard[name]({ data: JSON.stringify(data) });
    for (let quiet = 0; quiet < 2; quiet++) {
      await new Promise(frames);
      if (open.size) quiet = -1;
    }
    watch.disconnect();
    return { frames: drawn, changed: [...changed].sort((a, b) => a - b) };
  };
}
