"use strict";
(() => {
  const root = document.documentElement;
  const colours = {
    light: ["#1f5fbf", "#d9730d", "#2b8a57", "#b3372f", "#7a4fc0", "#0b8793", "#a86200", "#5c6878"],
    dark: ["#7fb0ff", "#ffab5e", "#6fd3a0", "#ff8a80", "#bd9bff", "#5fd0dc", "#e8b64c", "#98a5b6"],
  };
  const scales = {
    light: [[0, "#ffffff"], [0.02, "#e3edfb"], [0.5, "#5c93dc"], [1, "#123f85"]],
    dark: [[0, "#12161c"], [0.02, "#1d2c45"], [0.5, "#3a6fb8"], [1, "#a9ccff"]],
  };
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => (root.dataset.theme === "auto" ? (prefersDark.matches ? "dark" : "light") : root.dataset.theme);
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  function layoutOf(own) {
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true };
    const join = (one, other) => ({ ...one, ...other, title: { ...one.title, ...other?.title, standoff: 8 } });
    return {
      ...own,
      xaxis: join(axis, own.xaxis),
      yaxis: join(axis, own.yaxis),
      colorway: colours[theme()],
      font: { family: "system-ui, sans-serif", size: 12.5, color: colour("--text") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--text") } },
      margin: { l: 56, r: 12, t: 8, b: 44 },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      dragmode: "zoom",
    };
  }

  function tracesOf(traces) {
    return traces.map((trace) => {
      const group = trace.meta?.group;
      if (group !== undefined) return { ...trace, line: { ...trace.line, color: colours[theme()][group % 8] } };
      return trace.meta?.scale ? { ...trace, colorscale: scales[theme()] } : trace;
    });
  }

  const plots = [...document.querySelectorAll(".chart")].map((figure) => {
    const own = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    return { figure, place: figure.querySelector(".plot"), log: figure.querySelector(".log"), ...own };
  });

  function draw(plot) {
    const layout = layoutOf(plot.layout);
    if (plot.log?.getAttribute("aria-pressed") === "true") layout.yaxis = { ...layout.yaxis, type: "log", rangemode: "normal" };
    const config = { responsive: true, displaylogo: false, displayModeBar: false };
    return Plotly.react(plot.place, tracesOf(plot.traces), layout, config);
  }

  const drawAll = () => Promise.all(plots.filter((plot) => plot.isSeen).map(draw));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((found) => found.isIntersecting)) {
      const plot = plots.find((found) => found.place === entry.target);
      plot.isSeen = true;
      seen.unobserve(entry.target);
      draw(plot);
    }
  }, { rootMargin: "600px" });
  // the page is there to be read before the large script is
  const library = document.getElementById("plotly");
  if (library) {
    requestAnimationFrame(() => setTimeout(() => {
      const script = document.createElement("script");
      script.textContent = library.textContent;
      document.head.append(script);
      plots.forEach((plot) => seen.observe(plot.place));
      addEventListener("beforeprint", () => plots.forEach(draw));
    }));
  }

  for (const plot of plots.filter((found) => found.log)) {
    plot.log.addEventListener("click", () => {
      plot.log.setAttribute("aria-pressed", plot.log.getAttribute("aria-pressed") !== "true");
      draw(plot);
    });
  }

  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    drawAll();
  });
  prefersDark.addEventListener("change", drawAll);

  const words = new Intl.Collator(undefined, { numeric: true });
  function sort(heading) {
    const row = heading.parentElement, column = [...row.children].indexOf(heading);
    const isNumber = heading.classList.contains("number");
    const before = heading.getAttribute("aria-sort");
    const order = before === null ? (isNumber ? "descending" : "ascending") : before === "ascending" ? "descending" : "ascending";
    for (const other of row.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const body = heading.closest("table").tBodies[0], sign = order === "ascending" ? 1 : -1;
    const keyed = [...body.rows].map((line) => {
      const cell = line.cells[column];
      return { line, value: cell.dataset.value === undefined ? NaN : Number(cell.dataset.value), text: cell.textContent };
    });
    keyed.sort((one, other) => {
      if (!isNumber) return sign * words.compare(one.text, other.text);
      if (isNaN(one.value) || isNaN(other.value)) return isNaN(one.value) - isNaN(other.value);
      return sign * (one.value - other.value);
    });
    body.append(...keyed.map((found) => found.line));
  }
  for (const heading of document.querySelectorAll("th")) heading.firstElementChild.addEventListener("click", () => sort(heading));
})();
