// Blind votes. This page asks for nothing but ballots: no arm, no cost and no order of arrival reaches it.

import { Fragment, html, signal, useEffect, useState } from "../vendor/ui.js";
import { local, root } from "../lib/route.js";
import { comparison, post } from "../lib/api.js";
import { useKeys } from "../lib/keys.js";
import { announce, count, say } from "../lib/say.js";
import { look, panBy, zoomBy } from "../lib/zoom.js";
import { View, ZoomBar } from "../widgets/view.js";

const CHOICES = [["left", "Left", "1"], ["right", "Right", "2"], ["tie", "As good", "3"], ["both_bad", "Both bad", "4"]];
const ballot = signal(null);
const before = signal(null);
const problem = signal(null);
const reveal = signal(false);
const told = signal(null);
const looking = signal(false); // a vote would come too soon
let timer;

/** A random name kept in this browser: it tells voters apart, it proves nothing. */
function voter() {
  let name = localStorage.getItem("voter");
  if (!name) {
    name = crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
    localStorage.setItem("voter", name);
  }
  return name;
}

/** Show a ballot when both its pictures are decoded, so that neither comes first. */
async function show(next) {
  const pictures = next.images.map((url) => Object.assign(new Image(), { src: local(url) }));
  await Promise.all(pictures.map((picture) => picture.decode()));
  const [{ naturalWidth: width, naturalHeight: height } = {}] = pictures;
  ballot.value = { ...next, width, height, sharp: width <= 256 };
  clearTimeout(timer);
  looking.value = next.look_s > 0 && Boolean(next.ticket);
  if (looking.value) timer = setTimeout(() => { looking.value = false; announce("You can vote now."); }, next.look_s * 1000);
}

const fail = (error) => (problem.value = error);
const ask = (id) => post(`${comparison(id)}/ballots`, { voter: voter() }).then(show).catch(fail);

export default function Vote({ id }) {
  const [busy, wait] = useState(false);
  const now = ballot.value;
  useEffect(() => {
    document.title = "Vote · Lodestar";
    ballot.value = before.value = problem.value = told.value = null;
    look({ z: 1 });
    ask(id);
    return () => clearTimeout(timer);
  }, [id]);
  const vote = async (choice) => {
    if (busy || !now?.ticket) return;
    if (looking.value && choice !== "skip") return announce(`Look at both pictures for ${now.look_s} s first.`);
    wait(true);
    try {
      const answer = await post(`${comparison(id)}/ballots/${now.ticket}/vote`, { choice, reveal: reveal.value && choice !== "skip" });
      told.value = answer.left ? `Left was ${answer.left}, right was ${answer.right}.` : null;
      before.value = answer.left ? null : now;
      await ask(id);
      announce(`${told.value ?? "Counted. The next pair is there."}${looking.value ? ` You can vote in ${ballot.value.look_s} s.` : ""}`);
    } catch (error) {
      say(error.message);
    }
    wait(false);
  };
  const undo = () => {
    if (!before.value) return;
    clearTimeout(timer);
    looking.value = false;
    ballot.value = before.value;
    before.value = null;
    announce("The pair before is back; vote on it again.");
  };
  const pan = (dx, dy) => ["", () => panBy(dx, dy)];
  useKeys({
    ...Object.fromEntries(CHOICES.map(([choice, text, key]) => [key, [text, () => vote(choice)]])),
    s: ["Skip this pair", () => vote("skip")],
    u: ["Undo the last vote", undo],
    "+": ["Zoom in", () => zoomBy(1.5)], "-": ["Zoom out", () => zoomBy(1 / 1.5)], 0: ["Whole pictures", () => look({ z: 1 })],
    ArrowLeft: pan(-0.1, 0), ArrowRight: pan(0.1, 0), ArrowUp: pan(0, -0.1), ArrowDown: pan(0, 0.1),
  });
  return html`<div class="stack vote">
    <div class="bar"><h1 tabindex="-1">${now?.question ?? "Vote"}</h1></div>
    ${problem.value && html`<p class="note trouble" role="alert">${problem.value.message}</p>`}
    ${now && !now.ticket && html`<div class="card tight"><p>${now.voted ? `You have seen every pair that is made: ${count(now.voted, "vote")} of yours are counted. Thank you.` : "No pair is made yet. Come back when the pictures are there."}</p>
      <p class="bar"><a class="button primary" href="${root}/compare/${id}/results">See the results</a><a class="button" href="${root}/compare/${id}">Back to the comparison</a></p></div>`}
    ${now?.ticket && html`<${Fragment}>
      <div class="bar ballot-head"><p dir="auto">Prompt: <b>${now.prompt || "(empty)"}</b></p><span class="push"><${ZoomBar} /></span></div>
      <div class="ballot">${now.images.map((url, index) => html`<${View} key=${url} width=${now.width} height=${now.height}><img src=${local(url)} alt="Image ${index + 1}" class=${now.sharp ? "sharp" : ""} draggable=${false} /><//>`)}</div>
      <div class="choices ${looking.value ? "waiting" : ""}" role="group" aria-label="Your vote">${CHOICES.map(([choice, text, key]) => html`<button type="button" aria-disabled=${busy || looking.value} aria-describedby=${now.look_s ? "look" : null} onClick=${() => vote(choice)}>${text} <kbd>${key}</kbd></button>`)}</div>
      ${now.look_s > 0 && html`<p id="look" class="quiet">${looking.value ? `Look at both pictures for ${now.look_s} s; then vote.` : "You can vote now."}</p>`}
      <div class="bar"><button type="button" class="plain" aria-disabled=${busy} onClick=${() => vote("skip")}>Skip <kbd>S</kbd></button>
        <button type="button" class="plain" disabled=${!before.value} onClick=${undo}>Undo <kbd>U</kbd></button>
        <label class="check"><input type="checkbox" checked=${reveal.value} onChange=${(event) => (reveal.value = event.target.checked)} />Tell me after each vote which was which (it can then not be changed)</label>
        <p class="quiet push num">${now.voted} of ${now.planned} votes planned are yours</p></div><//>`}
    ${told.value && html`<p class="note">${told.value}</p>`}
    <p class="quiet">Sides and order are drawn by the server; some pairs come twice with sides swapped. <a href="${root}/compare/${id}/results">Stop and see the results</a></p>
  </div>`;
}
