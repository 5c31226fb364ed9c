"use strict";
(() => {
  const svgNamespace = "http://www.w3.org/2000/svg";
  const tip = document.body.appendChild(document.createElement("div"));
  tip.id = "tip";
  tip.hidden = true;

  // One switch for a series in all figures.
  const switches = [...document.querySelectorAll("[data-switch]")];
  for (const button of switches) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      const index = button.dataset.switch;
      for (const other of switches) {
        if (other.dataset.switch === index) other.setAttribute("aria-pressed", String(shown));
      }
      for (const series of document.querySelectorAll(`[data-series="${index}"]`)) series.classList.toggle("off", !shown);
    });
  }

  // Pointing at a switch brings its series to the front.
  for (const button of switches) {
    const dim = (others) => {
      for (const series of document.querySelectorAll("[data-series]"))
        series.classList.toggle("dim", others && series.dataset.series !== button.dataset.switch);
    };
    button.addEventListener("pointerenter", (event) => dim(event.pointerType === "mouse"));
    button.addEventListener("pointerleave", () => dim(false));
  }

  // <title> is the picture's name, but browsers also show it while hovering: an attribute has the same meaning.
  for (const svg of document.querySelectorAll("svg[role=img]")) {
    const title = svg.querySelector("title");
    if (!title) continue;
    svg.setAttribute("aria-label", title.textContent);
    title.remove();
  }

  const line = (className, text) => {
    const element = document.createElement(className === null ? "b" : "div");
    if (className !== null) element.className = className;
    const part = className === null ? element : element.appendChild(document.createElement("span"));
    part.textContent = text;
    return element;
  };

  const place = (event, lines) => {
    tip.replaceChildren(...lines);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    const right = event.clientX + 16;
    const left = right + box.width > width ? Math.max(4, event.clientX - 16 - box.width) : right;
    const top = Math.min(event.clientY + 16, innerHeight - box.height - 4);
    tip.style.left = `${Math.min(left, width - box.width - 4) + scrollX}px`;
    tip.style.top = `${Math.max(4, top) + scrollY}px`;
  };

  const closest = (items, distance) =>
    items.reduce((best, item) => (best === null || distance(item) < distance(best) ? item : best), null);

  for (const svg of document.querySelectorAll("svg.chart")) {
    const groups = [...svg.querySelectorAll(".series")].map((group) => ({
      group,
      name: group.dataset.name,
      points: JSON.parse(group.dataset.points).map(([x, y, at, value]) => ({ x, y, at, value })),
    }));
    const marks = svg.appendChild(document.createElementNS(svgNamespace, "g"));
    const clear = () => {
      marks.replaceChildren();
      tip.hidden = true;
    };
    const show = (event) => {
      const mouse = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const shown = groups
        .filter(({ group }) => !group.classList.contains("off"))
        .map(({ group, name, points }) => ({
          name,
          color: group.classList[1],
          point: closest(points, (point) => Math.abs(point.x - mouse.x)),
        }));
      const nearestX = closest(shown, ({ point }) => Math.abs(point.x - mouse.x));
      if (nearestX === null || Math.abs(nearestX.point.x - mouse.x) > 60) return clear();
      const at = nearestX.point;
      const near = closest(shown, ({ point }) => Math.hypot(point.x - mouse.x, point.y - mouse.y));
      const listed = shown.filter(({ point }) => Math.abs(point.x - at.x) < 25).sort((a, b) => a.point.y - b.point.y);
      marks.replaceChildren(
        ...listed.map(({ color, point }) => {
          const spot = document.createElementNS(svgNamespace, "circle");
          spot.setAttribute("class", `spot ${color}`);
          spot.setAttribute("cx", point.x);
          spot.setAttribute("cy", point.y);
          spot.setAttribute("r", 4);
          return spot;
        }),
      );
      const lines = listed.map((entry) => {
        const when = entry.point.at === at.at ? "" : `, ${entry.point.at}`;
        return line(`${entry.color}${entry === near ? " near" : ""}`, `${entry.name} ${entry.point.value}${when}`);
      });
      place(event, [line(null, at.at), ...lines]);
    };
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", clear);
  }

  for (const map of document.querySelectorAll(".maps svg.heat")) {
    const show = (event) => {
      const cell = event.target.closest("rect");
      map.querySelector(".at")?.classList.remove("at");
      if (!cell) {
        tip.hidden = true;
        return;
      }
      cell.classList.add("at");
      place(event, [line(null, cell.dataset.tip)]);
    };
    map.addEventListener("pointermove", show);
    map.addEventListener("pointerdown", show);
    map.addEventListener("pointerleave", () => {
      map.querySelector(".at")?.classList.remove("at");
      tip.hidden = true;
    });
  }
})();
