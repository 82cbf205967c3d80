// The stage: which picture is shown, what is told on it, and the box that is drawn there.

import { $, made, percent, place, say, tell } from "./page.js";

export const stage = {
  live: false, // the server has a source
  still: null, // Blob of a picture that is held or was opened; null while the live picture runs
  opened: false, // the still was opened by the user, not held from the live picture
  shown: null, // Blob of the live picture that was drawn last
  facts: null, // what the server said with it
  newest: null, // the live picture that came last, and what was said with it: {picture, facts}
  size: null, // [width, height] of the picture shown
  box: null,
};

export function current() {
  return stage.still || stage.shown;
}

export const boxText = () => stage.box && stage.box.map((value) => Math.round(value * 10) / 10).join(",");

export async function showLive({ picture, facts }) {
  const bitmap = await createImageBitmap(picture);
  // Held while this was decoded: what was seen then is what stays.
  if (stage.still) return bitmap.close();
  Object.assign(stage, { shown: picture, facts });
  draw(bitmap);
  drawMarks();
}

function draw(bitmap) {
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

const isNamed = (track) => track.state !== "unknown" && Boolean(track.label || track.gallery_image);
const nameOf = (track) => track.label || track.gallery_image;

function bestOfEach(tracks) {
  const order = ["confirmed", "tentative"];
  const sorted = tracks.filter(isNamed).sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state) || b.match - a.match);
  return sorted.filter((track, at) => sorted.findIndex((other) => nameOf(other) === nameOf(track)) === at);
}

export function drawMarks() {
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
      tell("asked");
    });
    const item = made("li");
    item.append(chip);
    return item;
  }));
  if (focused) [...chips.querySelectorAll("button")].find((chip) => chip.dataset.track === focused)?.focus();
}

export function tellControls() {
  const there = Boolean(current());
  $("seek").hidden = !stage.live;
  $("search").disabled = $("seek").disabled = $("enroll").disabled = $("place").disabled = !there;
  $("hold").hidden = !stage.live;
  $("hold").textContent = stage.still ? "Back to live" : "Hold still";
  $("frozen").hidden = !stage.still || stage.opened;
  $("place").textContent = stage.box ? "Whole picture" : "Draw a box";
  const size = stage.box && [Math.round(stage.box[2] - stage.box[0]), Math.round(stage.box[3] - stage.box[1])];
  $("part").textContent = !there ? "" : size ? `The box: ${size[0]} × ${size[1]} pixels.` : "The whole picture.";
  $("picture").setAttribute("aria-label", stage.opened ? "Opened picture" : stage.still ? "Live picture, held still" : "Live picture");
}

export function setBox(box) {
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

export function hold() {
  if (!stage.still) stage.still = stage.shown;
  tellControls();
}

export function goLive() {
  Object.assign(stage, { still: null, opened: false });
  setBox(null);
  if (stage.newest) showLive(stage.newest);
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
    if (moved) tell("asked");
    else if (!moving && !corner) setBox(trackAt(start));
    if (!moved && !moving && !corner && stage.box) tell("asked");
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
  if (event.key === "Enter") tell("asked");
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

async function open(file) {
  if (!file) return;
  try {
    draw(await createImageBitmap(file));
  } catch {
    return say(`this browser cannot show ${file.name}; open a JPEG, PNG or WebP picture`, true);
  }
  Object.assign(stage, { still: file, opened: true });
  setBox(null);
  tell("asked");
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
