"use strict";
// The page is whole without this: it only puts newer parts in the place of older ones.
const source = new EventSource("/events");
source.onmessage = (event) => {
  for (const [id, html] of Object.entries(JSON.parse(event.data))) {
    const part = document.getElementById(id);
    if (part && part.innerHTML !== html) part.innerHTML = html;
  }
};
source.onerror = () => {
  const lost = document.createElement("p");
  lost.className = "pill bad";
  lost.textContent = "No answer from Kveil: what you see is old";
  document.getElementById("state").replaceChildren(lost);
};
