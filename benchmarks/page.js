// Run inside the page by page.py and by a test: a grid without a service, and batches of events for it.
({
  async grid(prompts, seeds, arms) {
    const { html, render } = await import("/static/vendor/ui.js");
    const { Live } = await import("/static/lib/live.js");
    const { Grid } = await import("/static/widgets/grid.js");
    Live.prototype.start = async () => {};
    const live = new Live("grid");
    const cells = Array.from({ length: prompts * seeds * arms }, (_, index) => ({
      index,
      prompt: Math.floor(index / (seeds * arms)),
      seed: Math.floor(index / arms) % seeds,
      arm: index % arms,
      job: "j",
      status: "queued",
      images: [],
      metrics: {},
      warnings: [],
    }));
    const named = (what, count) => Array.from({ length: count }, (_, i) => `${what} ${i}`);
    live.take({
      cells,
      prompts: named("prompt", prompts),
      seeds: named("", seeds),
      arms: named("arm", arms).map((label) => ({ label, steps: 50 })),
      width: 64,
      height: 64,
    });
    const box = document.body.appendChild(document.createElement("div"));
    const chosen = { prompt: 0, seed: 0, a: 0, b: 1 };
    const nothing = () => {};
    render(html`<${Grid} live=${live} chosen=${chosen} choose=${nothing} size="s" hidden=${[]} hide=${nothing} filter="" />`, box);
    window.shown = { live, box };
  },

  /** Tell of a step of the cells `touched`: milliseconds until they are rendered, and which cells changed. */
  async batch(step, touched) {
    const { live, box } = window.shown;
    const frames = window.requestAnimationFrame;
    let due;
    window.requestAnimationFrame = (call) => ((due = call), 1);
    for (const cell of touched) {
      live.put("progress", { cell, step, total: 50, fraction: step / 50, stage: "denoising" });
      live.put("guidance", { cell, rows: [{ index: 0, step, sigma: 1, guidance_norm: step }] });
    }
    window.requestAnimationFrame = frames;
    const places = [...box.querySelectorAll("td")];
    const changed = new Set();
    const watch = new MutationObserver((seen) => {
      for (const { target } of seen) changed.add(places.findIndex((place) => place.contains(target)));
    });
    watch.observe(box, { subtree: true, childList: true, characterData: true, attributes: true });
    const began = performance.now();
    due();
    await new Promise((go) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = go;
      port2.postMessage(0);
    });
    const spent = performance.now() - began;
    watch.disconnect();
    return [spent, [...changed].sort((a, b) => a - b)];
  },
});
