// Draws every figure from the JSON beside it; the table under it has the same figures.
(() => {
  "use strict";
  const drawn = new Map();
  const thin = "\u2009";
  let palette = {};

  function colours() {
    const probe = document.body.appendChild(document.createElement("i"));
    const names = ["text", "muted", "faint", "line", "line-strong", "surface", "base", "cand", "third", "fourth", "good", "bad", "wait", "accent"];
    const computed = (name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color;
    };
    palette = Object.fromEntries(names.map((name) => [name, computed(name)]));
    probe.remove();
  }
  const ofRole = (role, index) =>
    role === "baseline" ? palette.base : role === "previous" ? palette.faint : ["candidate", "shadow"].includes(role) ? palette.cand : [palette.cand, palette.third, palette.fourth][Math.max(0, index - 1) % 3];
  const number = (value) => {
    const size = Math.abs(value);
    const digits = size !== 0 && size < 1000 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 0 };
    return value.toLocaleString("en", digits).replaceAll(",", thin).replace("-", "\u2212");
  };
  const milliseconds = (value) => (value < 1 ? `${number(value * 1000)}${thin}µs` : value < 1000 ? `${number(value)}${thin}ms` : `${number(value / 1000)}${thin}s`);
  const clock = (value) => new Date(value).toLocaleTimeString("en-GB");

  const moment = (value, span) => {
    const [date, time] = [new Date(value).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" }), new Date(value).toISOString().slice(11, span < 600000 ? 19 : 16)];
    return span > 86400000 ? `${date} ${time}` : time;
  };

  const axis = () => ({
    axisLine: { lineStyle: { color: palette["line-strong"] } },
    axisTick: { show: false },
    axisLabel: { color: palette.faint, fontSize: 11, fontFamily: "Inter, system-ui, sans-serif", hideOverlap: true },
    splitLine: { lineStyle: { color: palette.line } },
  });
  // Built from elements, since the page's policy allows no styles in markup.
  function tip(title, lines) {
    const box = document.createElement("div");
    box.className = "tip";
    const head = box.appendChild(document.createElement("div"));
    head.className = "t";
    head.textContent = title;
    for (const [colour, name, value] of lines) {
      const line = box.appendChild(document.createElement("div"));
      const left = line.appendChild(document.createElement("span"));
      if (colour) left.appendChild(document.createElement("i")).style.background = colour;
      left.append(name);
      line.appendChild(document.createElement("b")).textContent = value;
    }
    return box;
  }
  const hover = (formatter, pointer = "line") => ({
    trigger: "axis",
    confine: true,
    transitionDuration: 0,
    backgroundColor: palette.surface,
    borderColor: palette["line-strong"],
    padding: [7, 11],
    extraCssText: "box-shadow: 0 4px 16px rgb(0 0 0 / 14%); border-radius: 8px;",
    axisPointer: { type: pointer, lineStyle: { color: palette.faint }, shadowStyle: { color: palette.line, opacity: 0.4 } },
    formatter,
  });
  const base = (grid) => ({ animation: false, textStyle: { fontFamily: "Inter, system-ui, sans-serif" }, grid: { left: 46, right: 16, top: 18, bottom: 26, ...grid } });

  const kinds = {
    latency(data) {
      const middle = data.edges.map(([low, high]) => Math.sqrt(low * high));
      return {
        ...base({ top: 26 }),
        tooltip: hover((hits) => {
          const [low, high] = data.edges[hits[0].dataIndex];
          return tip(`${milliseconds(low)} to ${milliseconds(high)}`, hits.map((hit) => [hit.color, hit.seriesName, `${number(hit.value[1])}${thin}%`]));
        }),
        xAxis: { ...axis(), type: "log", min: data.edges[0][0], max: data.edges.at(-1)[1], splitLine: { show: false }, axisLabel: { ...axis().axisLabel, formatter: milliseconds, showMinLabel: false }, minorTick: { show: true, length: 3, lineStyle: { color: palette.line } } },
        yAxis: { ...axis(), type: "value", axisLine: { show: false }, axisLabel: { ...axis().axisLabel, formatter: `{value}${thin}%` } },
        series: data.series.map((one, index) => {
          const colour = ofRole(one.role, index);
          return {
            name: one.name,
            type: "line",
            data: one.values.map((value, at) => [middle[at], value]),
            showSymbol: false,
            smooth: 0.25,
            smoothMonotone: "x",
            lineStyle: { color: colour, width: 2 },
            itemStyle: { color: colour },
            areaStyle: { color: colour, opacity: 0.1 },
            markLine: {
              symbol: "none",
              silent: true,
              label: { color: colour, fontSize: 10.5, fontWeight: 600, distance: 2, formatter: "{b}" },
              lineStyle: { color: colour, type: "dashed", width: 1, opacity: 0.8 },
              data: [{ xAxis: one.p50, name: index === 0 ? "p50" : "" }, { xAxis: one.p99, name: index === 0 ? "p99" : "" }],
            },
          };
        }),
      };
    },

    outputs(data) {
      return {
        ...base({}),
        tooltip: hover((hits) => tip(data.kinds[hits[0].dataIndex], hits.map((hit) => [hit.color, hit.seriesName, `${number(hit.value)}${thin}%`])), "shadow"),
        xAxis: { ...axis(), type: "category", data: data.kinds, axisLabel: { ...axis().axisLabel, width: 90, overflow: "truncate" } },
        yAxis: { ...axis(), type: "value", axisLine: { show: false }, axisLabel: { ...axis().axisLabel, formatter: `{value}${thin}%` } },
        series: data.series.map((one, index) => ({
          name: one.name,
          type: "bar",
          data: one.values,
          barMaxWidth: 30,
          barGap: "8%",
          itemStyle: { color: ofRole(one.role, index), opacity: one.role === "shadow" ? 0.45 : 1, borderRadius: [3, 3, 0, 0] },
        })),
      };
    },

    evidence(data) {
      // Far below even odds nothing is decided: the picture begins at 1/100.
      const floor = -2;
      const top = Math.max(data.threshold * 1.25, ...data.points.map((point) => Math.max(point[1] ?? 0, point[2] ?? 0)));
      const most = Math.min(top, data.threshold * 4);
      const power = (value) => {
        if (value <= -3 || value >= 12) return `10^${number(value)}`;
        const [size, unit] = value < 4 ? [0, ""] : value < 6 ? [3, `${thin}k`] : value < 9 ? [6, `${thin}M`] : [9, `${thin}G`];
        return number(10 ** (value - size)) + unit;
      };
      const line = (name, at, colour) => ({
        name,
        type: "line",
        data: data.points.map((point) => [point[0], point[at] === null ? null : Math.min(most, Math.max(floor, point[at]))]),
        showSymbol: data.points.length < 3,
        symbolSize: 5,
        lineStyle: { color: colour, width: 1.8 },
        itemStyle: { color: colour },
      });
      return {
        ...base({ top: 16 }),
        tooltip: hover((hits) => {
          const point = data.points[hits[0].dataIndex];
          if (point[1] === null) return tip(clock(point[0]), [["", "no data", ""]]);
          return tip(clock(point[0]), [[palette.bad, "against", power(point[1])], [palette.good, "for", power(point[2])]]);
        }),
        xAxis: { ...axis(), type: "time", splitLine: { show: false }, axisLabel: { ...axis().axisLabel, formatter: (value) => clock(value).slice(0, data.points.at(-1)[0] - data.points[0][0] < 600000 ? 8 : 5) } },
        yAxis: { ...axis(), type: "value", min: floor, max: Math.ceil(most), interval: most > 6 ? 2 : 1, axisLine: { show: false }, axisLabel: { ...axis().axisLabel, formatter: power } },
        series: [
          {
            ...line("against", 1, palette.bad),
            markLine: {
              symbol: "none",
              silent: true,
              data: [
                { yAxis: data.threshold, lineStyle: { color: palette.muted, type: [5, 4], width: 1.4 }, label: { show: false } },
                ...data.shares.slice(1).map(([time, share]) => ({ xAxis: time, lineStyle: { color: palette["line-strong"], type: "solid", width: 1 }, label: { formatter: `${number(share)}${thin}%`, color: palette.faint, fontSize: 10.5, position: "insideEndTop", rotate: 0, distance: [3, -2], align: "left" } })),
              ],
            },
          },
          line("for", 2, palette.good),
        ],
      };
    },

    intervals(data) {
      const series = [];
      data.arms.forEach((arm, index) => {
        const colour = ofRole("", index + 1);
        const points = arm.points;
        const hidden = { lineStyle: { opacity: 0 }, showSymbol: false, silent: true, tooltip: { show: false }, stack: arm.name, stackStrategy: "all" };
        series.push({ ...hidden, type: "line", name: `${arm.name} low`, data: points.map(([time, , low]) => [time, low]) });
        series.push({ ...hidden, type: "line", name: `${arm.name} band`, data: points.map(([time, , low, high]) => [time, high - low]), areaStyle: { color: colour, opacity: 0.16 } });
        series.push({
          type: "line",
          name: arm.name,
          data: points.map(([time, difference]) => [time, difference]),
          showSymbol: points.length < 3,
          lineStyle: { color: colour, width: 2 },
          itemStyle: { color: colour },
          endLabel: { show: data.arms.length > 1, formatter: "{a}", color: colour, fontSize: 11, fontWeight: 600, distance: 6 },
          labelLayout: { moveOverlap: "shiftY" },
          markLine: index ? undefined : { symbol: "none", silent: true, data: [{ yAxis: 0 }], lineStyle: { color: palette.muted, type: [5, 4], width: 1.4 }, label: { show: false } },
        });
      });
      // The first intervals are as wide as everything; the picture is of where they ended up.
      const last = data.arms.map((arm) => arm.points.at(-1));
      const reach = Math.max(...last.map(([, difference, low, high]) => Math.max(Math.abs(low), Math.abs(high), Math.abs(difference) * 2))) * 1.8;
      return {
        ...base({ left: 56, right: data.arms.length > 1 ? 64 : 16 }),
        tooltip: hover((hits) => {
          const at = hits[0].dataIndex;
          return tip(clock(hits[0].value[0]), data.arms.filter((arm) => arm.points[at]).map((arm, index) => [ofRole("", index + 1), arm.name, `${number(arm.points[at][1])} (${number(arm.points[at][2])} to ${number(arm.points[at][3])})`]));
        }),
        xAxis: { ...axis(), type: "time", splitLine: { show: false }, axisLabel: { ...axis().axisLabel, formatter: (value) => clock(value).slice(0, 5) } },
        yAxis: { ...axis(), type: "value", min: -reach, max: reach, axisLine: { show: false }, axisLabel: { ...axis().axisLabel, formatter: number, showMinLabel: false, showMaxLabel: false } },
        series,
      };
    },
  };

  // A figure over time: lines with the bands that hold them, broken ones for what is no measurement, upright ones for
  // releases. Each series has its own times.
  kinds.course = (data) => {
    const series = [];
    const colours = data.series.map((one, index) => (one.role === "limit" ? palette.muted : ofRole(one.role, index + 1)));
    const times = data.series.flatMap((one) => one.points.map((point) => point[0]));
    const [first, last] = [Math.min(...times), Math.max(...times)];
    const span = last - first;
    const several = new Set(data.series.filter((one) => one.role !== "limit").map((one) => one.role)).size > 1;
    // Where windows are missing the line has a gap.
    const steps = data.series.flatMap((one) => one.points.slice(1).map((point, index) => point[0] - one.points[index][0])).filter((step) => step > 0);
    const usual = Math.min(...steps, Infinity);
    const broken = (points) => points.flatMap((point, index) => (index && point[0] - points[index - 1][0] > usual * 1.5 ? [[point[0] - usual / 2, null, null, null], point] : [point]));
    data.series.forEach((one, index) => {
      const colour = colours[index];
      const points = broken(one.points);
      const banded = points.some((point) => point[2] !== null) ? points : [];
      if (banded.length) {
        const hidden = { type: "line", lineStyle: { opacity: 0 }, showSymbol: false, silent: true, stack: `band ${index}`, stackStrategy: "all" };
        series.push({ ...hidden, name: `${one.name} low`, data: banded.map(([time, , low]) => [time, low]) });
        series.push({ ...hidden, name: `${one.name} band`, data: banded.map(([time, , low, high]) => [time, low === null ? null : high - low]), areaStyle: { color: colour, opacity: one.dashed ? 0.07 : 0.16 } });
      }
      series.push({
        type: "line",
        name: one.name,
        data: points.map(([time, value]) => [time, value]),
        connectNulls: false,
        showSymbol: one.role !== "limit" && one.points.length < 60,
        symbol: one.dashed ? "emptyCircle" : "circle",
        symbolSize: one.points.length < 20 ? 6 : 4,
        lineStyle: { color: colour, width: one.role === "limit" ? 1.4 : 2, type: one.dashed ? [6, 4] : "solid" },
        itemStyle: { color: colour },
        endLabel: { show: one.dashed && one.role !== "limit" && !several, formatter: "estimated", color: colour, fontSize: 11, fontWeight: 600, distance: 6 },
        markLine: index
          ? undefined
          : {
              symbol: "none",
              silent: true,
              data: [
                ...data.lines.map(([value, name]) => ({ yAxis: value, lineStyle: { color: palette.bad, type: [5, 4], width: 1.2 }, label: { formatter: name, color: palette.bad, fontSize: 10.5, position: "insideStartTop", distance: [0, 2] } })),
                ...data.marks
                  .filter(([time]) => time >= first && time <= last)
                  .map(([time, name, tone], place) => ({ xAxis: time, lineStyle: { color: palette[tone], type: "solid", width: 1.4 }, label: { formatter: name, color: palette[tone], fontSize: 10.5, fontWeight: 600, position: "insideEndTop", rotate: 0, offset: [0, 13 * (place % 2)], distance: [4, -2], align: time - first > span * 0.75 ? "right" : "left" } })),
              ],
            },
      });
    });
    // Bounds are part of the picture, so they count for the axis as well.
    series.push({ type: "line", silent: true, showSymbol: false, lineStyle: { opacity: 0 }, tooltip: { show: false }, data: data.lines.map(([value]) => [first, value]) });
    const values = [...data.series.flatMap((one) => one.points.flatMap(([, value, low, high]) => [value, low ?? value, high ?? value])), ...data.lines.map(([value]) => value)];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const fromZero = low >= 0 && low < high / 4;
    return {
      ...base({ left: 52, top: several ? 44 : 22, right: !several && data.series.some((one) => one.dashed && one.role !== "limit") ? 76 : 20 }),
      legend: { show: several, top: 0, left: 44, itemWidth: 18, itemGap: 16, selectedMode: false, data: data.series.map((one) => one.name), textStyle: { color: palette.muted, fontSize: 11 } },
      tooltip: hover((hits) => {
        const at = hits[0].value[0];
        const lines = data.series.flatMap((one, index) => {
          const point = one.points.find((known) => known[0] === at);
          return point ? [[colours[index], one.name, point[2] === null ? number(point[1]) : `${number(point[1])} (${number(point[2])} to ${number(point[3])})`]] : [];
        });
        return tip(`${moment(at, Infinity)} UTC`, lines);
      }),
      xAxis: { ...axis(), type: "time", min: span ? undefined : first - 3600000, max: span ? undefined : first + 3600000, splitLine: { show: false }, axisLabel: { ...axis().axisLabel, formatter: (value) => moment(value, span) } },
      yAxis: { ...axis(), type: "value", scale: !fromZero, min: fromZero ? 0 : undefined, splitNumber: 4, axisLine: { show: false }, axisLabel: { ...axis().axisLabel, formatter: number } },
      series,
    };
  };

  function draw(figure) {
    const plot = figure.querySelector(".plot");
    const text = figure.querySelector("script.figures").textContent;
    let chart = drawn.get(plot);
    if (chart?.text === text) return;
    if (!chart) {
      chart = { it: echarts.init(plot, null, { renderer: "canvas" }), text: "" };
      drawn.set(plot, chart);
    }
    chart.text = text;
    chart.it.setOption(kinds[figure.dataset.chart](JSON.parse(text)), { notMerge: true });
  }
  function drawAll() {
    for (const [plot, chart] of drawn) {
      if (!plot.isConnected) {
        chart.it.dispose();
        drawn.delete(plot);
      }
    }
    document.querySelectorAll("figure[data-chart]").forEach(draw);
  }
  function redraw() {
    colours();
    for (const chart of drawn.values()) chart.text = "";
    drawAll();
  }
  let soon = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(soon);
    soon = requestAnimationFrame(() => drawn.forEach((chart) => chart.it.resize()));
  });
  document.addEventListener("tidegate:theme", redraw);
  document.addEventListener("htmx:afterSwap", (event) => event.detail.target.id !== "dialog" && drawAll());
  document.fonts.ready.then(redraw);
})();
