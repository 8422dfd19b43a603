// The tokens of an answer: a press on one shows the patches whose removal costs it most, another press those found again.

export function start({ element }) {
  element.addEventListener("click", (event) => {
    const button = event.target.closest(".why-tokens button");
    if (!button) return;
    const buttons = [...element.querySelectorAll(".why-tokens button")];
    const now = buttons.findIndex((each) => each.getAttribute("aria-pressed") === "true");
    const next = buttons[now] === button ? -1 : buttons.indexOf(button);
    buttons.forEach((each, place) => each.setAttribute("aria-pressed", String(place === next)));
    const chosen = next < 0 ? [] : buttons[next].dataset.patches.split(" ");
    for (const picture of element.querySelectorAll(".why-pictures svg")) picture.classList.toggle("of-token", next >= 0);
    for (const patch of element.querySelectorAll("[data-patch]")) patch.classList.toggle("costs", chosen.includes(patch.dataset.patch));
    element.querySelector(".why-told").textContent = next < 0 ? "" : `“${buttons[next].textContent}”: ${buttons[next].title}`;
  });
}
