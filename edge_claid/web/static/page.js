// What every part of the page uses: elements, words, questions to the server, and word of what has happened.

export const $ = (id) => document.getElementById(id);
export const made = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
export const percent = (value) => `${Math.round(value * 100)} %`;
export const lasting = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export async function ask(path, options = {}) {
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

// What a part has done and does not carry on itself; app.js says who does. "asked": the picture, or the box on it, is to
// be searched. "changed": the gallery holds something else now.
const happenings = new EventTarget();
export const tell = (what) => happenings.dispatchEvent(new Event(what));
export const on = (what, then) => happenings.addEventListener(what, then);

export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

export function place(element, box, size) {
  const [width, height] = size;
  element.style.left = `${(box[0] / width) * 100}%`;
  element.style.top = `${(box[1] / height) * 100}%`;
  element.style.width = `${((box[2] - box[0]) / width) * 100}%`;
  element.style.height = `${((box[3] - box[1]) / height) * 100}%`;
}

export function say(text, wrong = false) {
  $("said").textContent = text;
  $("said").classList.toggle("wrong", wrong);
}
