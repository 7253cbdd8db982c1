// What the votes say, with honest intervals: ranks as ranges, every pair in words, and how far voters agree.

import { Fragment, html, signal, useEffect } from "../vendor/ui.js";
import { call, comparison, get } from "../lib/api.js";
import { put, query, root } from "../lib/route.js";
import { count, percent, say } from "../lib/say.js";
import { DotPlot, LinePlot } from "../widgets/chart.js";
import { Field, Select } from "../widgets/field.js";
import { Swatch } from "../widgets/swatch.js";

const state = signal(null);
const problem = signal(null);

export default function Results({ id }) {
  const filters = ["voter", "question", "prompt"].map((name) => [name, query(name)]).filter(([, value]) => value);
  const search = new URLSearchParams(filters).toString();
  useEffect(() => {
    document.title = "Results · Lodestar";
    problem.value = null;
    Promise.all([get(comparison(id)), get(`${comparison(id)}/results?${search}`)])
      .then(([found, results]) => (state.value = { found, ...results }))
      .catch((error) => (problem.value = error));
  }, [id, search]);
  if (problem.value) return html`<h1 tabindex="-1">No results here</h1><p>${problem.value.message}</p>`;
  if (!state.value) return html`<h1 tabindex="-1">Counting the votes</h1>`;
  const { found, votes, cost } = state.value;
  const mine = localStorage.getItem("voter");
  return html`<div class="stack">
    <div class="bar"><h1 tabindex="-1">Votes on ${found.title}</h1></div>
    <nav class="tabs" aria-label="This comparison"><a href="${root}/compare/${id}">Pictures</a><a href="${root}/compare/${id}/vote">Vote</a><a href="${root}/compare/${id}/results" aria-current="page">Results</a><a href="${root}${comparison(id)}/export.csv?of=votes" download>Votes, CSV</a></nav>
    ${(votes.n > 0 || search) && html`<div class="card fields">
      <${Field} label="Whose votes">${(attributes) => html`<${Select} attributes=${attributes} value=${query("voter")} options=${[["", `all ${count(votes.voters, "voter")}`], ...(mine ? [[mine, "mine alone"]] : [])]} onChange=${(voter) => put({ voter })} />`}<//>
      <${Field} label="On which prompt">${(attributes) => html`<${Select} attributes=${attributes} value=${query("prompt")} options=${[["", "all prompts"], ...found.prompts.map((text, index) => [String(index), text])]} onChange=${(prompt) => put({ prompt })} />`}<//>
      ${votes.questions.length > 1 && html`<${Field} label="Which question">${(attributes) => html`<${Select} attributes=${attributes} value=${query("question")} options=${[["", "all questions"], ...votes.questions.map((text) => [text, text])]} onChange=${(question) => put({ question })} />`}<//>`}
    </div>`}
    <p class="note">${headline(votes, found)}</p>
    ${votes.n > 0 && html`<${Fragment}><div class="plots two">
      ${votes.arms.length > 0 && html`<${DotPlot} title="Strength among the votes" xTitle="log-strength, mean 0" dots=${votes.arms.map((arm, index) => ({ arm: index, name: `${found.arms[index].label}: rank ${arm.best_rank === arm.worst_rank ? arm.best_rank : `${arm.best_rank} to ${arm.worst_rank}`}`, value: arm.strength, low: null, high: null, text: arm.strength.toFixed(2) }))} />`}
      <section class="card tight"><h2>In words</h2><ul class="plain tight">${votes.pairs.map((pair) => html`<li class="bar one"><${Swatch} arm=${pair.a} /><${Swatch} arm=${pair.b} /><span>${pair.text}</span></li>`)}</ul></section></div>
      <section class="card tight"><h2>Pair by pair</h2><div class="scroll" tabindex="0" role="region" aria-label="Pair by pair"><table class="data"><thead><tr>${["Pair", "Votes", "First wins", "Second wins", "As good", "Both bad", "Model: first beats second"].map((text) => html`<th scope="col">${text}</th>`)}</tr></thead>
          <tbody>${votes.pairs.map((pair) => html`<tr><th scope="row">${found.arms[pair.a].label} : ${found.arms[pair.b].label}</th><td>${pair.beats.n}</td><td>${pair.wins_a}</td><td>${pair.wins_b}</td><td>${pair.ties}</td><td>${pair.both_bad}</td><td>${interval(pair.beats)}</td></tr>`)}</tbody></table></div>
        <p class="quiet">Bradley-Terry with half a win each way as prior; intervals allow for votes that share a prompt or a voter. Whoever stops when it looks clear errs more often than 1 in 20: ${votes.planned} votes were planned.</p></section>
      <div class="plots two"><${Course} times=${votes.voted_at_ms} /><${Believed} ...${{ votes, found, cost }} /></div><//>`}
    ${votes.n === 0 && !search && html`<${Begin} found=${found} />`}
  </div>`;
}

/** Before the first vote the question may still be put otherwise. */
function Begin({ found }) {
  const save = async (event) => {
    event.preventDefault();
    const told = new FormData(event.target);
    try {
      await call(comparison(found.id), { method: "PATCH", body: { question: told.get("question").trim(), votes_planned: Number(told.get("planned")), look_s: Number(told.get("look")) } });
      say("Saved. From the first vote on, it stays so.");
    } catch (error) {
      say(error.message);
    }
  };
  return html`<form class="card tight" onSubmit=${save}><h2>Before the first vote</h2>
    <p class="quiet">Say what is asked, how many votes there shall be, and how long a pair is looked at; with the first vote all of it is fixed.</p>
    <${Field} label="Question to voters">${(attributes) => html`<input ...${attributes} name="question" maxlength="200" required value=${found.question} />`}<//>
    <${Field} label="Votes planned">${(attributes) => html`<input ...${attributes} name="planned" type="number" min="1" max="10000" required value=${found.votes_planned} />`}<//>
    <${Field} label="Seconds to look at a pair before voting" hint="0: none. Skipping a pair is always possible.">${(attributes) => html`<input ...${attributes} name="look" type="number" min="0" max="60" step="any" required value=${found.look_s} />`}<//>
    <div class="bar"><button>Save</button><a class="button primary push" href="${root}/compare/${found.id}/vote">Cast the first vote</a></div></form>`;
}

const UNITS = [["days", 864e5], ["hours", 36e5], ["minutes", 6e4], ["seconds", 1e3]];

/** How the votes came in: who stops as soon as it looks clear, or votes in haste, shows here. */
function Course({ times }) {
  const sorted = [...times].sort((a, b) => a - b);
  const span = sorted.at(-1) - sorted[0];
  const [unit, ms] = UNITS.find(([, size]) => span >= 2 * size) ?? UNITS.at(-1);
  const points = sorted.map((time, index) => [(time - sorted[0]) / ms, index + 1]);
  return html`<${LinePlot} title="Votes over time" about="the first at ${new Date(sorted[0]).toLocaleString()}, the last at ${new Date(sorted.at(-1)).toLocaleString()}"
    xTitle="${unit} since the first vote" most=${0} lines=${[{ arm: 7, name: "votes so far", points }]} />`;
}

/** Whether sides, repetition and scores speak for the votes. */
function Believed({ votes, found, cost }) {
  return html`<section class="card tight"><h2>Can it be believed?</h2><table class="data"><tbody>
        ${[["Left side chosen", votes.left, "50 % without side bias"], ["Same vote when shown again", votes.self_agreement, "of pairs shown twice"], ...votes.agreement.map((one) => [`Preferred picture has the higher ${one.title.toLowerCase()}`, one.share, "of votes with a winner"])].map(([text, share, note]) => html`<tr><th scope="row">${text}</th><td>${share ? `${interval(share)}, n = ${share.n}` : "no vote tells yet"}</td><td class="text quiet">${note}</td></tr>`)}</tbody></table>
        <p class="quiet">Cost: ${found.arms.map((arm, index) => `${arm.label} ${cost[index].nfe.join(", ") || "–"}`).join("; ")} evaluations per picture.</p></section>`;
}

const interval = ({ share, low, high }) => `${percent(share)} (${percent(low)} to ${percent(high)})`;

/** The result in one sentence, or why there is none. */
function headline(votes, found) {
  if (!votes.n) return "Nobody has voted yet.";
  if (!votes.arms.length) return `${count(votes.n, "vote")}: too few to rank; from ${votes.few} on there is a ranking.`;
  const clear = votes.pairs.filter((pair) => pair.clear);
  if (!clear.length) return `${count(votes.n, "vote")} of ${votes.planned} planned: no clear difference between any two of ${found.arms.length} arms.`;
  return `${count(votes.n, "vote")} of ${votes.planned} planned. ${clear.map((pair) => pair.text).join(" ")}`;
}
