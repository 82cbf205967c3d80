// State of the server, and the live picture.

import { ownFolder } from "./cards.js";
import { $, ask, lasting, made, query, say, sleep } from "./page.js";
import { boxText, current, goLive, hold, showLive, stage } from "./stage.js";

const WORDS = { off: "no live picture", starting: "starting", running: "live", lost: "picture lost", reconnecting: "connecting again", ended: "ended", gone: "server does not answer" };

export function tellPill(state, reason = "") {
  $("state").dataset.state = state;
  $("state-text").textContent = WORDS[state] || state;
  $("state").title = reason;
  $("again").hidden = state !== "ended";
  if (reason && state !== "running") $("rates").textContent = reason;
}

export async function tellState() {
  const told = await ask("/api/state");
  const { gallery } = told;
  $("gallery-name").textContent = gallery.name;
  document.title = `${gallery.name} · edge-claid`;
  $("gallery-count").textContent = `${gallery.images} pictures, ${gallery.labels.length} names`;
  $("labels").replaceChildren(...gallery.labels.slice(0, 500).map((label) => Object.assign(made("option"), { value: label })));
  tellSeeking(told.seeking);
  $("notice").hidden = !told.notice;
  $("notice").textContent = told.notice;
  $("logout").hidden = !told.token;
  ownFolder(gallery.pictures);
  stage.live = told.source !== null;
  if (!stage.live) {
    tellPill("off");
    $("empty-text").textContent = "Drop a picture here, paste one, or open one.";
    $("empty-hint").textContent = "There is no live picture: the server was started without --source.";
  }
  return told;
}

// -- seeking one thing only

function tellSeeking(name) {
  $("seeking").hidden = name === null;
  $("seeking-text").textContent = name === null ? "" : `Only “${name}” is sought in the live picture.`;
}

async function seek(options, path = "") {
  try {
    tellSeeking((await ask(`/api/live/seek${path}`, options)).seeking);
    goLive();
  } catch (error) {
    say(error.message, true);
  }
}

$("seek").addEventListener("click", () => {
  hold();
  seek({ method: "POST", body: current() }, query({ name: $("label").value.trim(), box: boxText() }));
});
$("seek-no-more").addEventListener("click", () => seek({ method: "DELETE" }));

// -- rates, and the live picture itself

function tellRates(facts) {
  const { summary } = facts;
  const latency = summary.latency_ms || {};
  const parts = [];
  if (facts.rate !== null) parts.push([facts.rate.toFixed(1), " frames a second"]);
  if (facts.latency_ms) parts.push([lasting(facts.latency_ms), " from picture to answer"]);
  if (latency.p95) parts.push([lasting(latency.p95), " for 95 of 100"]);
  if (summary.dropped) parts.push([summary.dropped, ` of ${summary.frames_in} frames passed over`]);
  $("rates").replaceChildren(...parts.map(([value, words]) => {
    const part = made("span", "", words);
    part.prepend(made("b", "", value));
    return part;
  }));
}

async function take(facts, bytes) {
  tellPill(facts.state, facts.reason);
  if (!stage.newest && !bytes.length) {
    $("empty-text").textContent = facts.state === "ended" ? "The source gave no picture." : "Waiting for the first picture…";
    $("empty-hint").textContent = facts.reason;
  }
  if (facts.state === "running" || !facts.reason) tellRates(facts);
  if (!bytes.length) return;
  stage.newest = { picture: new Blob([bytes], { type: "image/jpeg" }), facts };
  if (!stage.still) await showLive(stage.newest);
}

async function read(body) {
  // Messages of two parts: their lengths (2 uint32, big endian), facts as JSON, the picture as JPEG.
  const reader = body.getReader();
  let waiting = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(waiting.length + value.length);
    joined.set(waiting);
    joined.set(value, waiting.length);
    waiting = joined;
    for (;;) {
      if (waiting.length < 8) break;
      const lengths = new DataView(waiting.buffer, waiting.byteOffset, 8);
      const [facts, picture] = [lengths.getUint32(0), lengths.getUint32(4)];
      if (waiting.length < 8 + facts + picture) break;
      const told = JSON.parse(new TextDecoder().decode(waiting.subarray(8, 8 + facts)));
      await take(told, waiting.slice(8 + facts, 8 + facts + picture));
      waiting = waiting.slice(8 + facts + picture);
    }
  }
}

let watching = null;

export async function watch() {
  for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
    while (document.hidden) await sleep(300); // nobody looks: no picture is sent
    watching = new AbortController();
    try {
      const answer = await fetch("/api/live", { signal: watching.signal });
      if (answer.status === 401) return location.assign("/login");
      if (answer.ok) {
        wait = 500;
        await read(answer.body);
      }
    } catch {
      // The connection broke, or the page was hidden.
    }
    if (!document.hidden) tellPill("gone");
    await sleep(wait);
  }
}

document.addEventListener("visibilitychange", () => document.hidden && watching && watching.abort());
$("again").addEventListener("click", () => ask("/api/live/start", { method: "POST" }).then(goLive, (error) => say(error.message, true)));
