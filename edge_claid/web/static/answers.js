// Searching with the picture on the stage or the box on it, and enrolling it.

import { card, likely } from "./cards.js";
import { $, ask, query, say, tell } from "./page.js";
import { boxText, current, hold, tellControls } from "./stage.js";

let asked = 0;

export async function search() {
  const number = ++asked;
  const picture = current();
  if (!picture) return;
  hold();
  say(""); // what was said of another picture
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
      (measured && best.match < 0.5 ? "None of them is likely to be it. " : "") +
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
    tell("changed");
  } catch (error) {
    say(error.message, true);
  }
  tellControls();
});
