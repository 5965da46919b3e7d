// Draws the charts of the page with uPlot. Without this script the still pictures stay.
(function () {
  "use strict";
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const light = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
  const dark = ["#4ea8e6", "#f07f3c", "#2fc79b", "#e3a0c5", "#f2b92f", "#8accf2", "#ffffff"];
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";
  const colour = (at) => (isDark() ? dark : light)[at];
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const plots = [];

  function text(value) {
    if (value == null) return "–";
    const size = Math.abs(value);
    const most = size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 4;
    return value.toLocaleString("en-US", { maximumFractionDigits: most });
  }

  // uPlot needs x to grow; points at one instant stand side by side.
  function growing(xs) {
    let last = -Infinity;
    return xs.map((x) => (last = x > last ? x : last + Math.max(Math.abs(last) * 1e-9, 1e-9)));
  }

  // The value next to the cursor, where a series has none at that x.
  function nearest(plot, series, at) {
    const values = plot.data[series];
    for (let off = 0; off < values.length; off++) {
      if (values[at - off] != null) return at - off;
      if (values[at + off] != null) return at + off;
    }
    return at;
  }

  function axis(of, side) {
    const common = {
      label: of.label, labelSize: 22, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif",
      stroke: () => css("--quiet"), grid: { stroke: () => css("--line"), width: 1 }, ticks: { show: false },
      size: side === "y" ? 62 : 34,
    };
    if (of.scale !== "linear") {
      common.splits = (plot, number, min, max) => of.ticks.map((tick) => tick[0]).filter((at) => at >= min && at <= max);
      common.values = (plot, splits) => splits.map((at) => (of.ticks.find((tick) => tick[0] === at) || [0, text(at)])[1]);
      if (of.scale === "log") common.filter = (plot, splits) => splits;
      if (of.scale === "named") common.rotate = 0;
    } else {
      common.values = (plot, splits) => splits.map((at) => at.toLocaleString("en-US", { maximumFractionDigits: 6 }));
    }
    return common;
  }

  function mark(pen, x, y, kind, size) {
    const zoom = window.devicePixelRatio || 1, radius = size * zoom;
    pen.lineWidth = 2 * zoom;
    pen.setLineDash([]);
    pen.beginPath();
    if (kind === 2) {
      pen.moveTo(x - radius, y - radius); pen.lineTo(x + radius, y + radius);
      pen.moveTo(x - radius, y + radius); pen.lineTo(x + radius, y - radius);
      pen.stroke();
      return;
    }
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    if (kind === 1) { pen.fillStyle = css("--paper"); pen.fill(); pen.stroke(); return; }
    pen.fill();
    if (kind === 3) { pen.beginPath(); pen.arc(x, y, 2 * radius, 0, 2 * Math.PI); pen.stroke(); }
  }

  function clipped(plot, draw) {
    const pen = plot.ctx, box = plot.bbox;
    pen.save();
    pen.beginPath(); pen.rect(box.left, box.top, box.width, box.height); pen.clip();
    draw(pen, box, window.devicePixelRatio || 1);
    pen.restore();
  }

  function background(chart) {
    return (plot) => clipped(plot, (pen, box, zoom) => {
      const scale = plot.scales.x, ends = [];
      const place = (x) => plot.valToPos(Math.min(Math.max(x, scale.min), scale.max), "x", true);
      pen.font = 11 * zoom + "px system-ui, sans-serif";
      pen.textBaseline = "top";
      pen.textAlign = "left";
      const name = (label, at) => {
        const x = Math.min(at, box.left + box.width - pen.measureText(label).width - 6 * zoom);
        let row = ends.findIndex((end) => end < x);
        if (row < 0) row = ends.length;
        ends[row] = x + pen.measureText(label).width + 6 * zoom;
        pen.fillStyle = css("--quiet");
        pen.fillText(label, x + 4 * zoom, box.top + (4 + 13 * row) * zoom);
      };
      for (const band of chart.bands) {
        if (band.to <= scale.min || band.from >= scale.max) continue;
        const from = place(band.from), to = place(band.to);
        pen.globalAlpha = isDark() ? 0.22 : 0.16;
        pen.fillStyle = band.colour;
        pen.fillRect(from, box.top, to - from, box.height);
        pen.globalAlpha = 1;
        name(band.name, from);
      }
      for (const line of chart.lines) {
        if (line.x < scale.min || line.x > scale.max) continue;
        const x = place(line.x);
        pen.strokeStyle = css("--quiet"); pen.lineWidth = zoom; pen.setLineDash([4 * zoom, 3 * zoom]);
        pen.beginPath(); pen.moveTo(x, box.top); pen.lineTo(x, box.top + box.height); pen.stroke();
        pen.setLineDash([]);
        name(line.name, x);
      }
    });
  }

  function marks(chart) {
    return (plot) => clipped(plot, (pen) => {
      chart.series.forEach((series, number) => {
        if (series.draw === "line" || series.draw === "bars" || !plot.series[number + 1].show) return;
        let named = null;
        const size = series.draw === "dots" && series.x.length > 200 ? 2 : 4;
        series.x.forEach((x, at) => {
          if (x < plot.scales.x.min || x > plot.scales.x.max) return;
          const left = plot.valToPos(x, "x", true), top = plot.valToPos(series.y[at], "y", true);
          pen.strokeStyle = pen.fillStyle = colour(series.colour);
          mark(pen, left, top, (series.marks || [])[at] || 0, size);
          if (series.draw !== "labelled") return;
          const zoom = window.devicePixelRatio || 1;
          if (named && Math.abs(left - named[0]) < 24 * zoom && Math.abs(top - named[1]) < 11 * zoom) return;
          named = [left, top];
          pen.font = 11 * zoom + "px system-ui, sans-serif";
          pen.textAlign = "left"; pen.textBaseline = "bottom"; pen.fillStyle = css("--ink");
          pen.fillText((series.names || [])[at] || "", left + 6 * zoom, top - 3 * zoom);
        });
      });
    });
  }

  function lines(chart) {
    return chart.series.map((series) => {
      const names = new Map(series.x.map((x, at) => [x, (series.names || [])[at]]));
      const unit = chart.y.label.split(", ")[0];
      const line = {
        label: series.name || unit, stroke: () => colour(series.colour), width: 2, spanGaps: true, points: { show: false },
        dash: series.dashed ? [6, 4] : undefined,
        value: (plot, value, number, at) => {
          const name = at == null ? null : names.get(plot.data[0][at]);
          return (name ? name + ": " : "") + text(value);
        },
      };
      if (series.draw === "dots" || series.draw === "labelled") line.paths = () => null;
      if (series.draw === "bars") {
        line.paths = uPlot.paths.bars({ size: [0.98, 200] });
        line.fill = () => colour(series.colour) + "99";
      }
      return line;
    });
  }

  function scales(chart, data) {
    const low = data[0][0], high = data[0][data[0].length - 1];
    const isWhole = (min, max) => min == null || (min <= low && max >= high) || min === max;
    const kind = (of) => (of.scale === "log" ? { distr: 3, log: 10 } : { distr: 1 });
    let whole = true;
    return {
      x: Object.assign(kind(chart.x), {
        time: false,
        range: (plot, min, max) => ((whole = isWhole(min, max)) ? [chart.x.from, chart.x.to] : [min, max]),
      }),
      y: Object.assign(kind(chart.y), {
        range: (plot, min, max) => {
          if (whole || min == null || chart.y.scale === "log") return [chart.y.from, chart.y.to];
          const pad = (max - min || Math.abs(max) || 1) * 0.06;
          return [min >= 0 ? Math.max(0, min - pad) : min - pad, max + pad];
        },
      }),
    };
  }

  function draw(chart) {
    const place = document.getElementById("plot-" + chart.name);
    if (!place) return;
    chart.series.forEach((series) => { series.x = growing(series.x); });
    const data = uPlot.join(chart.series.map((series) => [series.x, series.y]));
    const options = {
      width: place.clientWidth || 600, height: 300,
      scales: scales(chart, data),
      axes: [axis(chart.x, "x"), axis(chart.y, "y")],
      series: [{ label: chart.x.label.split(", ")[0], value: (plot, x) => {
        const tick = chart.x.scale === "named" && x != null ? chart.x.ticks[Math.round(x)] : null;
        return tick ? tick[1] : text(x);
      } }].concat(lines(chart)),
      cursor: { dataIdx: (plot, series, at) => (series === 0 ? at : nearest(plot, series, at)), points: { size: 7 } },
      hooks: { drawAxes: [background(chart)], draw: [marks(chart)], setSeries: [together] },
    };
    if (chart.clock) options.cursor.sync = { key: "clock-" + chart.clock };
    const plot = new uPlot(options, data, place);
    // Series of one name are one in the legend.
    const rows = place.querySelectorAll(".u-legend .u-series");
    plot.series.forEach((series, at) => {
      if (plot.series.findIndex((other) => other.label === series.label) < at && rows[at]) rows[at].style.display = "none";
    });
    plots.push([place, plot]);
  }

  // Hides and shows all series of one name.
  function together(plot, number, change) {
    if (number == null || change.show == null) return;
    plot.series.forEach((series, at) => {
      if (at > 0 && at !== number && series.label === plot.series[number].label && series.show !== change.show) {
        plot.setSeries(at, { show: change.show });
      }
    });
  }

  root.classList.add("live");
  charts.forEach(draw);
  const resize = () => plots.forEach(([place, plot]) => plot.setSize({ width: place.clientWidth || 600, height: 300 }));
  window.addEventListener("resize", resize);
  const redraw = () => plots.forEach(([, plot]) => plot.redraw());
  prefersDark.addEventListener("change", redraw);
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    redraw();
  });
})();
