// Deferred: the page is there, and the theme's own script has not run yet.

// The page's own bar has the menu and the search. The theme has a second one, hidden here, and its script brings the first
// menu buttons that it finds to life: those of the hidden bar come last.
document.body.append(document.getElementById("pst-header"));

// What the theme leaves without a name or with a wrong role for screen readers.
document.querySelectorAll("summary:not([aria-label])").forEach((summary) => {
  const page = summary.closest("li")?.querySelector("a");
  if (!summary.textContent.trim()) summary.setAttribute("aria-label", `Pages below ${page?.textContent.trim()}`);
});
document.querySelectorAll(".citation").forEach((entry) => entry.setAttribute("role", "listitem"));
document.querySelectorAll(".sig dl, .sig dl > dd").forEach((part) => part.setAttribute("role", "none"));

// Figures open at the size of the window; a click there shows that place three times as large.
{
  const figures = document.querySelectorAll(".cell_output img, .bd-article figure img");
  const dialog = document.createElement("dialog");
  dialog.className = "zoomed";
  dialog.setAttribute("aria-label", "Enlarged figure");
  const close = document.createElement("button");
  close.textContent = "Close";
  close.addEventListener("click", () => dialog.close());
  const room = document.createElement("div");
  room.tabIndex = 0;  // arrow keys scroll it
  const image = document.createElement("img");
  dialog.append(close, room);
  document.body.append(dialog);

  image.addEventListener("click", (event) => {
    const [x, y] = [event.offsetX / image.width, event.offsetY / image.height];
    image.classList.toggle("larger");
    room.scrollTo(x * image.width - room.clientWidth / 2, y * image.height - room.clientHeight / 2);
  });
  // The theme's script keeps this key from the browser.
  dialog.addEventListener("keydown", (event) => { if (event.key === "Escape") dialog.close(); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  figures.forEach((figure) => {
    const button = document.createElement("button");
    button.className = "zoom";
    button.title = "Enlarge";
    figure.replaceWith(button);
    button.append(figure);
    button.addEventListener("click", () => {
      room.replaceChildren(image);
      image.src = figure.src;
      image.alt = figure.alt;
      image.classList.remove("larger");
      dialog.showModal();
    });
  });
}
