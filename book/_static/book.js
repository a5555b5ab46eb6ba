// Figures open at the size of the window; a click there shows that place three times as large.
document.addEventListener("DOMContentLoaded", () => {
  const figures = document.querySelectorAll(".cell_output img, .bd-article figure img");
  if (!figures.length) return;

  const dialog = document.createElement("dialog");
  dialog.className = "zoomed";
  dialog.setAttribute("aria-label", "Enlarged figure");
  const close = document.createElement("button");
  close.textContent = "Close";
  close.addEventListener("click", () => dialog.close());
  const room = document.createElement("div");
  room.tabIndex = 0;  // arrow keys scroll it
  const image = document.createElement("img");
  room.append(image);
  dialog.append(close, room);
  document.body.append(dialog);

  image.addEventListener("click", (event) => {
    const [x, y] = [event.offsetX / image.width, event.offsetY / image.height];
    image.classList.toggle("larger");
    room.scrollTo(x * image.width - room.clientWidth / 2, y * image.height - room.clientHeight / 2);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  figures.forEach((figure) => {
    const button = document.createElement("button");
    button.className = "zoom";
    button.title = "Enlarge";
    figure.replaceWith(button);
    button.append(figure);
    button.addEventListener("click", () => {
      image.src = figure.src;
      image.alt = figure.alt;
      image.classList.remove("larger");
      dialog.showModal();
    });
  });
});
