// A picture of the gallery as a card, as a large view, and its removal.

import { $, ask, made, percent, place, query, say, tell } from "./page.js";

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

export function card(image, hit = null, best = false) {
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

export const likely = (hit) => (hit.match === null ? `score ${hit.score.toFixed(2)}` : `${percent(hit.match)} likely the same thing`);

function enlarge(image, hit) {
  $("large-title").textContent = image.label || image.path;
  $("large-picture").replaceChildren(picture(image, 1280, hit && hit.box));
  const score = !hit ? "" : hit.match === null ? `${likely(hit)} · ` : `${likely(hit)} (score ${hit.score.toFixed(2)}) · `;
  const facts = image.width ? ` · ${image.width} × ${image.height} pixels · ${image.regions} regions` : "";
  $("large-facts").textContent = `${score}${image.root}/${image.path}${facts}`;
  $("large-remove").onclick = () => confirmRemoval(image);
  $("new-label").value = image.label || "";
  $("rename-said").textContent = "";
  $("rename").onsubmit = (event) => {
    event.preventDefault();
    rename(image);
  };
  $("large").showModal();
}

async function rename(image) {
  try {
    const label = $("new-label").value;
    image.label = (await ask(`/api/images/${image.id}${query({ label })}`, { method: "PATCH" })).image.label;
  } catch (error) {
    $("rename-said").textContent = error.message;
    return;
  }
  $("large").close();
  for (const name of document.querySelectorAll(`[data-image="${image.id}"] .caption b`)) name.textContent = image.label;
  say(`It is called ${image.label} now.`);
  tell("changed");
}

let own = ""; // folder of the pictures that were enrolled from the page

export function ownFolder(name) {
  own = name;
}

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
    tell("changed");
    $("gallery-title").focus(); // a field would bring up a phone's keyboard
  };
  $("confirm").showModal();
}

$("confirm-no").addEventListener("click", () => $("confirm").close());
$("large-close").addEventListener("click", () => $("large").close());
