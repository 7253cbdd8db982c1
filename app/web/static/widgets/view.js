// A picture in its frame: zoomed and panned with all others, by mouse, touch and buttons.

import { Fragment, html, useEffect, useRef } from "../vendor/ui.js";
import { local, query } from "../lib/route.js";
import { panBy, zoom, zoomBy } from "../lib/zoom.js";
import { WrongModules } from "./code.js";

const WHOLE = { "--z": 1, "--x": 0, "--y": 0 };

/** A frame for pictures of the size `width` x `height`; `children` lie on each other. `whole`: not zoomed with the others. */
export function View({ width, height, style = {}, whole = false, children }) {
  const box = useRef();
  const drag = useRef(null);
  useEffect(() => {
    const wheel = (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const { left, top, width, height } = box.current.getBoundingClientRect();
      zoomBy(event.deltaY < 0 ? 1.25 : 0.8, (event.clientX - left) / width, (event.clientY - top) / height);
    };
    box.current.addEventListener("wheel", wheel, { passive: false });
    return () => box.current?.removeEventListener("wheel", wheel);
  }, []);
  const move = (event) => {
    if (!drag.current) return;
    const { width, height } = box.current.getBoundingClientRect();
    panBy((drag.current.x - event.clientX) / width, (drag.current.y - event.clientY) / height);
    drag.current = { x: event.clientX, y: event.clientY };
  };
  return html`<div class="view" ref=${box} style=${{ "--ratio": width / height, ...style, ...(whole ? WHOLE : {}) }}
    onPointerDown=${(event) => { if (zoom.value.z > 1 && event.button === 0 && event.target.type !== "range") { drag.current = { x: event.clientX, y: event.clientY }; box.current.setPointerCapture(event.pointerId); } }}
    onPointerMove=${move} onPointerUp=${() => (drag.current = null)} onPointerCancel=${() => (drag.current = null)}>${children}</div>`;
}

/** A finished picture. Small ones, and any beyond 1:1, show their pixels. */
export const Picture = ({ image, alt, loading }) => html`<${Fragment}><img src=${local(image.url)} alt=${alt} width=${image.width} height=${image.height} draggable=${false}
  decoding="async" loading=${loading} class=${image.width <= 256 ? "sharp" : ""} />${image.qr && query("marks") === "1" && html`<${WrongModules} image=${image} />`}<//>`;

export const ZoomBar = () => html`<div class="bar joined" role="group" aria-label="Zoom of all pictures">
  <button type="button" aria-label="Zoom out" onClick=${() => zoomBy(1 / 1.5)} disabled=${zoom.value.z <= 1}>−</button>
  <span class="quiet num">${zoom.value.z.toFixed(1)}×</span>
  <button type="button" aria-label="Zoom in" onClick=${() => zoomBy(1.5)}>+</button>
</div>`;
