export { h, render, Fragment } from "preact";
export { useEffect, useLayoutEffect, useRef, useState, useMemo, useId, useErrorBoundary } from "preact/hooks";
export { signal, computed, effect, batch, useSignal, useComputed, useSignalEffect } from "@preact/signals";
import { h } from "preact";
import htm from "htm";
export const html = htm.bind(h);
