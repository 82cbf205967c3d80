// The page of `edge-claid serve`: one stage that shows the live picture or an opened one, a box on it, and what the
// gallery answers. Boxes are [x0, y0, x1, y1] in pixels of the picture, everywhere but in the style of elements.
"use strict";

const $ = (id) => document.getElementById(id);
const made = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
const percent = (value) => `${Math.round(value * 100)} %`;
const lasting = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// -- talking to the server

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer; is it still running?");
  }
  if (answer.status === 401) location.assign("/login");
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.error || `the server refused (${answer.status})`);
  return told;
}

function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

// -- the stage: which picture is shown, and the box on it

const stage = {
  live: false, // the server has a source
  still: null, // Blob of a picture that is held or was opened; null while the live picture runs
  opened: false, // the still was opened by the user, not held from the live picture
  newest: null, // Blob of the newest live picture
  facts: null, // what the server said with it
  size: null, // [width, height] of the picture shown
  box: null,
};

function current() {
  return stage.still || stage.newest;
}

async function show(blob) {
  const bitmap = await createImageBitmap(blob);
  const canvas = $("picture");
  if (!stage.size || stage.size[0] !== bitmap.width || stage.size[1] !== bitmap.height) {
    stage.size = [bitmap.width, bitmap.height];
    [canvas.width, canvas.height] = stage.size;
    setBox(null);
  }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  $("frame").hidden = false;
  $("empty").hidden = true;
  fitStage();
  tellControls();
}

function fitStage() {
  if (!stage.size) return;
  const [width, height] = stage.size;
  const most = Math.max(240, Math.min(window.innerHeight * 0.64, 760));
  const scale = Math.min($("stage").clientWidth / width, most / height);
  $("frame").style.width = `${Math.floor(width * scale)}px`;
  $("frame").style.height = `${Math.floor(height * scale)}px`;
}

function place(element, box, size) {
  const [width, height] = size;
  element.style.left = `${(box[0] / width) * 100}%`;
  element.style.top = `${(box[1] / height) * 100}%`;
  element.style.width = `${((box[2] - box[0]) / width) * 100}%`;
  element.style.height = `${((box[3] - box[1]) / height) * 100}%`;
}

const isNamed = (track) => track.state !== "unknown" && Boolean(track.label || track.gallery_image);
const nameOf = (track) => track.label || track.gallery_image;

function bestOfEach(tracks) {
  const order = ["confirmed", "tentative"];
  const sorted = tracks.filter(isNamed).sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state) || b.match - a.match);
  return sorted.filter((track, at) => sorted.findIndex((other) => nameOf(other) === nameOf(track)) === at);
}

function drawMarks() {
  const facts = stage.facts;
  const shown = facts && facts.tracks && !stage.opened ? facts.tracks : [];
  // The picture that is sent may be smaller than the frame that boxes are told in.
  const told = new Set(bestOfEach(shown)); // one caption a name, or captions hide the picture
  const marks = shown.map((track) => {
    const named = isNamed(track);
    const mark = made("div", `mark ${named ? track.state : "unknown"}`);
    place(mark, track.box, facts.size);
    if (track.box[1] < facts.size[1] * 0.07) mark.classList.add("low");
    if (told.has(track)) {
      const sure = track.match === null ? "" : ` ${percent(track.match)}`;
      mark.append(made("span", "", nameOf(track) + sure + (track.state === "tentative" ? " ?" : "")));
    }
    return mark;
  });
  $("marks").replaceChildren(...(stage.box ? [] : marks));
  tellSeen(shown);
}

let seenBefore = "";

function tellSeen(tracks) {
  // One chip for each name: the best of its tracks.
  const named = bestOfEach(tracks).slice(0, 12);
  const now = JSON.stringify(named.map((track) => [nameOf(track), track.state]));
  const chips = $("seen");
  chips.tracks = new Map(named.map((track) => [nameOf(track), track]));
  if (now === seenBefore) return; // the focus stays where it is
  seenBefore = now;
  const focused = document.activeElement && document.activeElement.dataset.track;
  chips.replaceChildren(...named.map((track) => {
    const chip = made("button", track.state);
    chip.type = "button";
    chip.dataset.track = nameOf(track);
    chip.title = "Search the gallery with this";
    chip.append(made("span", "dot"), nameOf(track));
    chip.addEventListener("click", () => {
      const latest = chips.tracks.get(nameOf(track));
      if (!latest) return;
      hold();
      const scale = stage.size[0] / stage.facts.size[0];
      setBox(latest.box.map((value) => value * scale));
      search();
    });
    const item = made("li");
    item.append(chip);
    return item;
  }));
  if (focused) [...chips.querySelectorAll("button")].find((chip) => chip.dataset.track === focused)?.focus();
}

function tellControls() {
  const there = Boolean(current());
  $("search").disabled = $("enroll").disabled = $("place").disabled = !there;
  $("hold").hidden = !stage.live;
  $("hold").textContent = stage.still ? "Back to live" : "Hold still";
  $("frozen").hidden = !stage.still || stage.opened;
  $("place").textContent = stage.box ? "Whole picture" : "Draw a box";
  const size = stage.box && [Math.round(stage.box[2] - stage.box[0]), Math.round(stage.box[3] - stage.box[1])];
  $("part").textContent = !there ? "" : size ? `The box: ${size[0]} × ${size[1]} pixels.` : "The whole picture.";
  $("picture").setAttribute("aria-label", stage.opened ? "Opened picture" : stage.still ? "Live picture, held still" : "Live picture");
}

// -- the box

function setBox(box) {
  if (box) {
    const [width, height] = stage.size;
    const [x0, y0, x1, y1] = box;
    box = [Math.max(0, Math.min(x0, x1)), Math.max(0, Math.min(y0, y1)), Math.min(width, Math.max(x0, x1)), Math.min(height, Math.max(y0, y1))];
    place($("box"), box, stage.size);
    $("box").setAttribute("aria-label", `Search box at ${box.map(Math.round).join(", ")}`);
  }
  stage.box = box;
  $("box").hidden = !box;
  drawMarks();
  tellControls();
}

function hold() {
  if (!stage.still) stage.still = stage.newest;
  tellControls();
}

function goLive() {
  Object.assign(stage, { still: null, opened: false });
  setBox(null);
  if (stage.newest) show(stage.newest);
}

function pointOf(event) {
  const around = $("frame").getBoundingClientRect();
  const inside = (value, most) => Math.max(0, Math.min(most, value));
  return [
    inside(((event.clientX - around.left) / around.width) * stage.size[0], stage.size[0]),
    inside(((event.clientY - around.top) / around.height) * stage.size[1], stage.size[1]),
  ];
}

$("frame").addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !current()) return;
  event.preventDefault();
  hold();
  const start = pointOf(event);
  const before = stage.box;
  const corner = event.target.dataset.corner;
  const moving = !corner && event.target === $("box");
  // A corner is dragged against the one across from it.
  const anchor = corner ? [before[corner.includes("w") ? 2 : 0], before[corner.includes("n") ? 3 : 1]] : start;
  let moved = false;
  $("frame").setPointerCapture(event.pointerId);
  const drag = (now) => {
    const [x, y] = pointOf(now);
    const far = Math.hypot(x - start[0], y - start[1]) * ($("frame").clientWidth / stage.size[0]);
    if (!moved && far < 6) return;
    moved = true;
    if (moving) setBox(shifted(before, x - start[0], y - start[1]));
    else setBox([anchor[0], anchor[1], x, y]);
  };
  const end = () => {
    $("frame").removeEventListener("pointermove", drag);
    if (moved) search();
    else if (!moving && !corner) setBox(trackAt(start));
    if (!moved && !moving && !corner && stage.box) search();
    if (stage.box) $("box").focus({ preventScroll: true });
  };
  $("frame").addEventListener("pointermove", drag);
  for (const name of ["pointerup", "pointercancel"]) $("frame").addEventListener(name, end, { once: true });
});

function trackAt([x, y]) {
  // A tap on a thing that is boxed takes its box: the smallest one there.
  if (stage.opened || !stage.facts || !stage.facts.tracks) return null;
  const scale = stage.size[0] / stage.facts.size[0];
  const boxes = stage.facts.tracks.map((track) => track.box.map((value) => value * scale));
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  const under = boxes.filter((box) => x >= box[0] && x < box[2] && y >= box[1] && y < box[3]);
  return under.sort((a, b) => area(a) - area(b))[0] || null;
}

function shifted(box, dx, dy) {
  const [width, height] = stage.size;
  const x = Math.max(-box[0], Math.min(width - box[2], dx));
  const y = Math.max(-box[1], Math.min(height - box[3], dy));
  return [box[0] + x, box[1] + y, box[2] + x, box[3] + y];
}

$("box").addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (event.key === "Enter") search();
  else if (event.key === "Escape") {
    setBox(null);
    $("place").focus();
  } else if (steps[event.key]) {
    const step = Math.max(2, Math.round(Math.max(...stage.size) / 50));
    const [dx, dy] = steps[event.key].map((way) => way * step);
    const [x0, y0, x1, y1] = stage.box;
    setBox(event.shiftKey ? [x0, y0, Math.max(x0 + step, x1 + dx), Math.max(y0 + step, y1 + dy)] : shifted(stage.box, dx, dy));
  } else return;
  event.preventDefault();
});

$("place").addEventListener("click", () => {
  hold();
  if (stage.box) return setBox(null);
  const [width, height] = stage.size;
  setBox([width * 0.3, height * 0.3, width * 0.7, height * 0.7]);
  $("box").focus();
});
$("hold").addEventListener("click", () => (stage.still ? goLive() : hold()));
window.addEventListener("resize", fitStage);

// -- an opened picture

async function open(file) {
  if (!file) return;
  try {
    await show(file);
  } catch {
    return say(`this browser cannot show ${file.name}; open a JPEG, PNG or WebP picture`, true);
  }
  Object.assign(stage, { still: file, opened: true });
  setBox(null);
  search();
}

$("file").addEventListener("change", (event) => {
  open(event.target.files[0]);
  event.target.value = "";
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("stage").classList.add("drop");
  });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("stage").classList.remove("drop");
  });
}
document.addEventListener("drop", (event) => open(event.dataTransfer.files[0]));
document.addEventListener("paste", (event) => open(event.clipboardData.files[0]));

// -- search and enrolment

function say(text, wrong = false) {
  $("said").textContent = text;
  $("said").classList.toggle("wrong", wrong);
}

const boxText = () => stage.box && stage.box.map((value) => Math.round(value * 10) / 10).join(",");
let asked = 0;

async function search() {
  const number = ++asked;
  const picture = current();
  if (!picture) return;
  hold();
  $("results-said").textContent = "Searching…";
  try {
    const found = await ask(`/api/search${query({ box: boxText() })}`, { method: "POST", body: picture });
    if (number === asked) tellHits(found);
  } catch (error) {
    if (number !== asked) return;
    $("hits").replaceChildren();
    $("results-said").textContent = error.message;
  }
}

function tellHits(found) {
  $("hits").replaceChildren(...found.hits.map((hit, rank) => card(hit.image, hit, rank === 0)));
  const [best] = found.hits;
  const measured = best && best.match !== null;
  if (best && matchMedia("(max-width: 900px)").matches) say(`Best: ${best.image.label || best.image.path}, ${likely(best)}. All answers are below.`);
  $("results-said").textContent = !found.images
    ? "The gallery is empty: give the thing a name below the picture and enrol it."
    : `The best ${found.hits.length} of ${found.images} pictures, in ${found.seconds.toFixed(2)} s. ` +
      (measured ? "Per cent: how likely it is the same thing." : "The number is how alike they look, 1 at most; the last may be nothing alike.");
}

$("search").addEventListener("click", search);
$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const label = $("label").value.trim();
  if (!label) {
    say("Give it a name first.", true);
    return $("label").focus();
  }
  hold();
  $("enroll").disabled = true;
  say("Enrolling…");
  try {
    const done = await ask(`/api/images${query({ label, box: boxText() })}`, { method: "POST", body: current() });
    const known = done.status === "unchanged" ? "This very picture was there already; it is now called" : "Enrolled:";
    say(`${known} ${done.image.label}, with ${done.image.regions} regions.`);
    $("label").value = "";
    await Promise.all([tellState(), list(true)]);
  } catch (error) {
    say(error.message, true);
  }
  tellControls();
});

// -- cards, the large view, removal

function picture(image, side, box) {
  const shown = made("div", "shown");
  const fit = made("div", "fit");
  const drawn = new Image();
  drawn.alt = "";
  drawn.loading = "lazy";
  drawn.decoding = "async";
  drawn.addEventListener("error", () => fit.classList.add("away"));
  const [width, height] = [image.width || 1, image.height || 1];
  drawn.src = `/api/images/${image.id}/picture?side=${side}`;
  fit.append(drawn);
  if (box) {
    const mark = made("div", "mark");
    place(mark, box, [width, height]);
    fit.append(mark);
  }
  shown.append(fit);
  // The picture as large as it fits, with its own shape, so that the box lies where it belongs.
  new ResizeObserver(() => {
    const scale = Math.min(shown.clientWidth / width, shown.clientHeight / height);
    fit.style.width = `${width * scale}px`;
    fit.style.height = `${height * scale}px`;
  }).observe(shown);
  return shown;
}

function card(image, hit = null, best = false) {
  const item = made("li", best ? "card best" : "card");
  item.dataset.image = image.id;
  const button = made("button");
  button.type = "button";
  const name = image.label || image.path;
  button.setAttribute("aria-label", hit ? `${name}, ${likely(hit)}` : name);
  const caption = made("div", "caption");
  caption.append(made("b", "", name));
  if (hit) {
    // How likely it is the same thing, where the gallery is calibrated; else how alike it looks.
    const sure = hit.match ?? hit.score;
    const score = made("span", "score");
    const bar = made("i");
    bar.style.setProperty("--share", `${100 * Math.max(0, Math.min(1, sure))}%`);
    score.append(bar, hit.match === null ? hit.score.toFixed(2) : percent(hit.match));
    item.classList.toggle("unlikely", hit.match !== null && hit.match < 0.1);
    caption.append(score);
  }
  if (image.label) caption.append(made("small", "", image.path));
  button.append(picture(image, best ? 1280 : 320, hit && hit.box), caption);
  button.addEventListener("click", () => enlarge(image, hit));
  item.append(button);
  if (!hit) {
    const remove = made("button", "remove", "×");
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove ${name}`);
    remove.addEventListener("click", () => confirmRemoval(image));
    item.append(remove);
  }
  return item;
}

const likely = (hit) => (hit.match === null ? `score ${hit.score.toFixed(2)}` : `${percent(hit.match)} likely the same thing`);

function enlarge(image, hit) {
  $("large-title").textContent = image.label || image.path;
  $("large-picture").replaceChildren(picture(image, 1280, hit && hit.box));
  const score = !hit ? "" : hit.match === null ? `${likely(hit)} · ` : `${likely(hit)} (score ${hit.score.toFixed(2)}) · `;
  const facts = image.width ? ` · ${image.width} × ${image.height} pixels · ${image.regions} regions` : "";
  $("large-facts").textContent = `${score}${image.root}/${image.path}${facts}`;
  $("large-remove").onclick = () => confirmRemoval(image);
  $("large").showModal();
}

let own = ""; // folder of the pictures that were enrolled from the page

function confirmRemoval(image) {
  const kept = image.root === own ? "Its picture file, which this page stored, is deleted too." : "Its picture file stays where it is.";
  $("confirm-text").textContent = `“${image.label || image.path}” will no longer be found. ${kept}`;
  $("confirm-yes").onclick = async () => {
    $("confirm").close();
    $("large").close();
    try {
      await ask(`/api/images/${image.id}`, { method: "DELETE" });
      for (const gone of document.querySelectorAll(`[data-image="${image.id}"]`)) gone.remove();
      say(`Removed: ${image.label || image.path}.`);
    } catch (error) {
      say(error.message, true);
    }
    await Promise.all([tellState(), list(true)]);
    $("filter").focus();
  };
  $("confirm").showModal();
}

$("confirm-no").addEventListener("click", () => $("confirm").close());
$("large-close").addEventListener("click", () => $("large").close());

// -- the gallery

let next = null;
let listed = 0;

async function list(anew) {
  const number = ++listed;
  const text = $("filter").value.trim();
  let page;
  try {
    page = await ask(`/api/images${query({ text, before: anew ? null : next, limit: 24 })}`);
  } catch (error) {
    $("gallery-empty").hidden = false;
    $("gallery-empty").textContent = error.message;
    return;
  }
  if (number !== listed) return;
  const cards = page.images.map((image) => card(image));
  if (anew) $("images").replaceChildren(...cards);
  else $("images").append(...cards);
  next = page.next;
  $("more").hidden = next === null;
  const none = !$("images").children.length;
  $("gallery-empty").hidden = !none;
  $("gallery-empty").textContent = text
    ? `Nothing here is called “${text}”.`
    : "Nothing is enrolled yet. Draw a box around a thing, name it and enrol it; or on the command line: edge-claid enroll FOLDER.";
}

$("more").addEventListener("click", () => list(false));
$("filter").addEventListener("input", () => list(true));

// -- state, and the live picture

const WORDS = { off: "no live picture", starting: "starting", running: "live", lost: "picture lost", reconnecting: "connecting again", ended: "ended", gone: "server does not answer" };
let images = null;

function tellPill(state, reason = "") {
  $("state").dataset.state = state;
  $("state-text").textContent = WORDS[state] || state;
  $("state").title = reason;
  $("again").hidden = state !== "ended";
  if (reason && state !== "running") $("rates").textContent = reason;
}

async function tellState() {
  const told = await ask("/api/state");
  const { gallery } = told;
  $("gallery-name").textContent = gallery.name;
  document.title = `${gallery.name} · edge-claid`;
  $("gallery-count").textContent = `${gallery.images} pictures, ${gallery.labels.length} names`;
  $("labels").replaceChildren(...gallery.labels.slice(0, 500).map((label) => Object.assign(made("option"), { value: label })));
  $("notice").hidden = !told.notice;
  $("notice").textContent = told.notice;
  $("logout").hidden = !told.token;
  own = gallery.pictures;
  stage.live = told.source !== null;
  if (images !== null && images !== gallery.images) list(true); // it was enrolled into elsewhere
  images = gallery.images;
  if (!stage.live) {
    tellPill("off");
    $("empty-text").textContent = "Drop a picture here, paste one, or open one.";
    $("empty-hint").textContent = "There is no live picture: the server was started without --source.";
  }
  return told;
}

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
  stage.newest = new Blob([bytes], { type: "image/jpeg" });
  if (stage.still) return;
  stage.facts = facts;
  await show(stage.newest);
  if (!stage.still) drawMarks();
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

async function watch() {
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

async function begin() {
  try {
    await tellState();
  } catch {
    tellPill("gone");
    await sleep(2000);
    return begin();
  }
  list(true);
  if (stage.live) watch();
  for (;;) {
    await sleep(5000);
    if (!document.hidden) await tellState().catch(() => tellPill("gone"));
  }
}

begin();
