#include "plot/plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>

#include "base/error.h"

namespace taipan {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const double kNan = std::nan(""), kInf = std::numeric_limits<double>::infinity();

std::vector<std::string> Labels(const std::vector<PlotTick>& ticks) {
  std::vector<std::string> labels;
  for (const PlotTick& t : ticks) labels.push_back(t.label);
  return labels;
}

size_t Count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

// "" where tags balance, attributes are quoted, and text has no bare < or &; else what is wrong.
std::string XmlFault(const std::string& xml) {
  std::vector<std::string> open;
  for (size_t i = 0; i < xml.size(); ++i) {
    if (xml[i] == '&') {
      const std::string entity = xml.substr(i, xml.find(';', i) + 1 - i);
      const bool known =
          entity == "&amp;" || entity == "&lt;" || entity == "&gt;" || entity == "&quot;" || entity == "&apos;";
      if (!known) return "entity " + entity.substr(0, 20);
    }
    if (xml[i] != '<') continue;
    const size_t end = xml.find('>', i);
    if (end == xml.npos) return "tag without end";
    const std::string tag = xml.substr(i + 1, end - i - 1);
    if (tag.find('<') != tag.npos) return "< in tag " + tag;
    if (Count(tag, "\"") % 2 != 0) return "quotes in " + tag;
    const std::string name = tag.substr(tag[0] == '/', tag.find_first_of(" />", 1) - (tag[0] == '/'));
    if (tag[0] == '/') {
      if (open.empty() || open.back() != name) return "end of " + name;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
    i = end;
  }
  return open.empty() ? "" : "left open: " + open.back();
}

TEST(XmlFault, SeesFaults) {
  EXPECT_EQ(XmlFault("<a><b x=\"1\"/>t &lt;</a>"), "");
  for (const char* bad : {"<a>", "<a></b>", "<a x=\"1/>", "</a>", "<a>x & y</a>", "<a>1 < 2</a>"})
    EXPECT_NE(XmlFault(bad), "");
}

TEST(NiceTicks, RoundValues) {
  EXPECT_THAT(Labels(NiceTicks(0, 10, 5)), ElementsAre("0", "2", "4", "6", "8", "10"));
  EXPECT_THAT(Labels(NiceTicks(-1, 1, 4)), ElementsAre("-1.0", "-0.5", "0", "0.5", "1.0"));
  EXPECT_THAT(Labels(NiceTicks(0.97, 1.31, 4)), ElementsAre("1.0", "1.1", "1.2", "1.3"));
  EXPECT_THAT(Labels(NiceTicks(0, 1'000'000, 5)), ElementsAre("0", "200000", "400000", "600000", "800000", "1.0e+06"));
  EXPECT_THAT(Labels(NiceTicks(1e-6, 3e-6, 3)), ElementsAre("1e-06", "2e-06", "3e-06"));
  for (double scale : {1e-300, 1e-9, 1.0, 3.7, 1e9, 1e299}) {
    for (int count : {1, 2, 5, 9}) {
      const auto ticks = NiceTicks(-0.3 * scale, 0.77 * scale, count);
      EXPECT_GE(ticks.size(), 1u);
      EXPECT_LE(ticks.size(), static_cast<size_t>(count) + 1);
      for (const PlotTick& t : ticks) EXPECT_TRUE(t.value >= -0.301 * scale && t.value <= 0.771 * scale);
    }
  }
  EXPECT_LE(NiceTicks(1, 1 + 1e-15, 5).size(), 60u);  // steps below the resolution of doubles end too
  EXPECT_THROW(NiceTicks(1, 1, 5), InternalError);
}

TEST(LogTicks, Decades) {
  EXPECT_THAT(Labels(LogTicks(1, 1000, 4)), ElementsAre("1", "10", "100", "1000"));
  EXPECT_THAT(Labels(LogTicks(1, 100, 6)), ElementsAre("1", "2", "5", "10", "20", "50", "100"));
  EXPECT_THAT(Labels(LogTicks(1, 1e12, 4)), ElementsAre("1", "1000", "1e+06", "1e+09", "1e+12"));
  EXPECT_GE(LogTicks(30, 40, 4).size(), 2u);  // less than a decade: as on a plain axis
}

PlotSeries Falling(int n, const std::string& name) {
  PlotSeries s{name, {}, {}};
  for (int i = 1; i <= n; ++i) {
    s.x.push_back(i);
    s.y.push_back(1 + 4.0 / i);
  }
  return s;
}

TEST(SvgPlot, HasItsParts) {
  const std::string svg = SvgPlot({Falling(100, "train"), Falling(50, "valid")}, {"Loss", "step", "bits/byte"});
  EXPECT_EQ(XmlFault(svg), "");
  EXPECT_EQ(Count(svg, "<polyline"), 2u);
  for (const char* part : {">Loss<", ">step<", ">bits/byte<", ">train<", ">valid<", "viewBox=\"0 0 800 450\""}) {
    EXPECT_THAT(svg, HasSubstr(part));
  }
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_EQ(Count(svg, "#1f83d1"), 2u);  // curve and legend have one colour
}

TEST(SvgPlot, EscapesText) {
  const std::string svg = SvgPlot({Falling(3, "a<b & \"c\"")}, {"1 < 2 & '3'\n\x01", "<x>", "]]>"});
  EXPECT_EQ(XmlFault(svg), "");
  EXPECT_THAT(svg, AllOf(HasSubstr("a&lt;b &amp; &quot;c&quot;"), Not(HasSubstr("\x01"))));
}

TEST(SvgPlot, CurveIsWhereItBelongs) {
  // Two points span the frame from corner to corner: x from 64 to 180, y in pixels downwards within 4 % of room.
  const std::string svg = SvgPlot({{"", {0, 1}, {0, 1}}}, {}, 200, 150);
  const size_t at = svg.find("points=\"");
  ASSERT_NE(at, svg.npos);
  std::istringstream in(svg.substr(at + 8));
  double x0, y0, x1, y1;
  char comma;
  in >> x0 >> comma >> y0 >> x1 >> comma >> y1;
  const double room = 104 * 0.04 / 1.08;  // the frame is 104 pixels high, from 16 to 120
  EXPECT_NEAR(x0, 64, 0.06);
  EXPECT_NEAR(x1, 180, 0.06);
  EXPECT_NEAR(y0, 120 - room, 0.06);
  EXPECT_NEAR(y1, 16 + room, 0.06);
}

TEST(SvgPlot, LogAxisSpreadsDecadesEvenly) {
  const std::string svg =
      SvgPlot({{"", {0, 1, 10, 100}, {9, 0, 0.5, 1}}}, {.log_x = true}, 200, 150);  // x = 0: left out
  EXPECT_THAT(svg, AllOf(HasSubstr("cx=\"64.0\""), HasSubstr("cx=\"122.0\""), HasSubstr("cx=\"180.0\"")));
  EXPECT_EQ(Count(svg, "<circle"), 3u);
}

TEST(SvgPlot, OddInputs) {
  EXPECT_THAT(SvgPlot({}, {}), HasSubstr("no data"));
  EXPECT_THAT(SvgPlot({{"empty", {}, {}}}, {.title = "t", .log_x = true}), HasSubstr("no data"));
  EXPECT_THAT(SvgPlot({{"nan", {1, kNan, 3}, {kNan, 1, kInf}}}, {}), HasSubstr("no data"));
  const std::string one = SvgPlot({{"one", {5}, {2.5}}}, {});
  EXPECT_EQ(Count(one, "<circle"), 1u);
  const std::string gaps = SvgPlot({{"g", {1, 2, 3, 4}, {1, kNan, -kInf, 2}}}, {});
  EXPECT_EQ(Count(gaps, "<circle"), 2u);
  const std::vector<std::string> all = {one,
                                        gaps,
                                        SvgPlot({}, {}),
                                        SvgPlot({{"", {1, 2}, {3, 3}}}, {}),
                                        SvgPlot({{"", {0}, {0}}}, {}),
                                        SvgPlot({{"", {7}, {7}}}, {.log_x = true}),
                                        SvgPlot({{"", {-1e299, 1e299}, {-1e299, 1e299}}}, {}),
                                        SvgPlot({{"", {1e-320, 1}, {1e-320, 0}}}, {}),
                                        SvgPlot({Falling(9, "tiny")}, {"t", "x", "y"}, 1, 1)};
  for (const std::string& svg : all) {
    EXPECT_EQ(XmlFault(svg), "");
    EXPECT_THAT(svg, AllOf(Not(HasSubstr("nan")), Not(HasSubstr("inf"))));
  }
  EXPECT_THROW(SvgPlot({{"", {1}, {}}}, {}), InternalError);
}

TEST(SvgPlot, LongRunsStaySmallAndKeepTheirExtremes) {
  PlotSeries s{"long", {}, {}};
  for (int i = 0; i < 200'000; ++i) {
    s.x.push_back(i);
    s.y.push_back(i == 123'456 ? 10 : std::sin(i));
  }
  const std::string svg = SvgPlot({s}, {});
  EXPECT_LT(svg.size(), 60'000u);
  // The one peak is the highest point: 4 % of room below the top of the frame at 16 (404 pixels high).
  EXPECT_THAT(svg, HasSubstr(",31.0 "));
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

size_t Characters(const std::string& text) {
  size_t n = 0;
  for (const char c : text) n += (c & 0xC0) != 0x80;
  return n;
}

TEST(TerminalPlot, DiagonalFromCornerToCorner) {
  PlotSeries line{"", {}, {}};
  for (int i = 0; i <= 100; ++i) {
    line.x.push_back(i);
    line.y.push_back(i);
  }
  const auto lines = Lines(TerminalPlot({line}, {}, 40, 8));
  ASSERT_EQ(lines.size(), 10u);  // area, axis, labels
  const size_t area = 40 - 3 - 2;
  const auto column_of_first_dot = [&](size_t row) {  // columns after the margin of 3 and the axis
    size_t column = 0;
    for (size_t i = 0, seen = 0; i < lines[row].size(); ++i) {
      if ((lines[row][i] & 0xC0) == 0x80) continue;
      if (static_cast<unsigned char>(lines[row][i]) == 0xE2 && lines[row].compare(i, 2, "\xE2\x94") != 0) {
        column = seen;
        break;
      }
      ++seen;
    }
    return column - 4;
  };
  EXPECT_EQ(column_of_first_dot(7), 0u);
  for (size_t row = 0; row + 1 < 8; ++row) EXPECT_GT(column_of_first_dot(row), column_of_first_dot(row + 1));
  EXPECT_EQ(Characters(lines[0]), 4 + area);  // ends in the last column
  EXPECT_THAT(lines[9], AllOf(HasSubstr("0"), HasSubstr("50"), HasSubstr("100")));
}

// All dots of the left column of a cell, of the right one (dots 1237 and 4568), and of the last row (78).
TEST(TerminalPlot, DotsOfACell) {
  const PlotSeries upright{"", {5, 5}, {0, 1}};
  EXPECT_EQ(Count(TerminalPlot({upright}, {}, 41, 8), "\u2847"), 6u);  // 8 rows less 4 % of room at each end
  EXPECT_EQ(Count(TerminalPlot({upright}, {}, 40, 8), "\u28b8"), 6u);
  EXPECT_EQ(Count(TerminalPlot({{"", {0, 1}, {0, 0}}}, {}, 40, 8), "\u28c0"), 34u);
}

TEST(TerminalPlot, HasItsPartsAndKeepsItsWidth) {
  for (int columns : {40, 61, 80, 200}) {
    const std::string text =
        TerminalPlot({Falling(1000, "train"), Falling(300, "valid")}, {"Loss", "step", "bits/byte", true}, columns, 12);
    for (const char* part : {"Loss", "step", "bits/byte", "train", "valid", "1000"}) EXPECT_THAT(text, HasSubstr(part));
    for (const std::string& line : Lines(text)) EXPECT_LE(Characters(line), static_cast<size_t>(columns)) << line;
    EXPECT_EQ(Lines(text).size(), 12u + 6);
    EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  }
  EXPECT_THAT(TerminalPlot({Falling(9, "a"), Falling(9, "b")}, {}, 80, 10, true), HasSubstr("\x1b[33m"));
}

TEST(TerminalPlot, OddInputs) {
  EXPECT_THAT(TerminalPlot({}, {}), HasSubstr("no data"));
  EXPECT_THAT(TerminalPlot({{"nan", {1}, {kNan}}}, {.log_x = true}), HasSubstr("no data"));
  const std::string one = TerminalPlot({{"", {5}, {2.5}}}, {});
  EXPECT_THAT(one, Not(HasSubstr("no data")));
  size_t cells = 0;
  for (int dots = 1; dots < 256; ++dots) {
    const std::string cell = {'\xE2', static_cast<char>(0xA0 | (dots >> 6)), static_cast<char>(0x80 | (dots & 0x3F))};
    cells += Count(one, cell);
  }
  EXPECT_EQ(cells, 1u);  // one point is one dot
  TerminalPlot({{"", {-1e299, 1e299}, {-1e299, 1e299}}}, {"t", "x", "y"}, 1, 1);
  TerminalPlot({{std::string(500, 'n'), {1, 2}, {3, 3}}}, {std::string(500, 't')}, 50, 10);
}

// The widths of the bars, in order.
std::vector<double> BarWidths(const std::string& svg) {
  std::vector<double> widths;
  const std::string attribute = "width=\"";
  for (size_t at = svg.find("<rect "); at != svg.npos; at = svg.find("<rect ", at + 1)) {
    widths.push_back(std::stod(svg.substr(svg.find(attribute, at) + attribute.size())));
  }
  return widths;
}

TEST(SvgBars, BarsAreInProportion) {
  const std::string svg =
      SvgBars({{"long & <slow>", 4321}, {"half", 2160.5}, {"none", 0}}, {.title = "T", .x_label = "ms"});
  EXPECT_EQ(XmlFault(svg), "");
  EXPECT_THAT(svg,
              AllOf(HasSubstr("long &amp; &lt;slow&gt;"), HasSubstr(">4321<"), HasSubstr(">ms<"), HasSubstr(">T<")));
  const std::vector<double> widths = BarWidths(svg);
  ASSERT_EQ(widths.size(), 3u);
  EXPECT_NEAR(widths[1], widths[0] / 2, 0.1);  // a digit of pixels is printed
  EXPECT_EQ(widths[2], 0);
}

TEST(SvgBars, MarksScaleWithTheBars) {
  // The mark is the longest of all, so the bar ends half way.
  const std::vector<double> plain = BarWidths(SvgBars({{"a", 10}}, {})),
                            marked = BarWidths(SvgBars({{"a", 10, 20}}, {}));
  ASSERT_EQ(plain.size(), 1u);
  ASSERT_EQ(marked.size(), 2u);  // with the mark
  EXPECT_NEAR(marked[0], plain[0] / 2, 0.1);
}

TEST(SvgBars, OddInputs) {
  for (const std::string& svg : {SvgBars({}, {}), SvgBars({{"", kNan}, {"x", kInf, kNan}, {"y", -3}}, {}),
                                 SvgBars({{std::string(500, 'n'), 1}}, {.title = std::string(500, 't')}, 1)}) {
    EXPECT_EQ(XmlFault(svg), "");
    for (const double width : BarWidths(svg)) EXPECT_TRUE(width >= 0 && width < 1000) << svg;
  }
}

TEST(SvgPlot, DashesWhatIsMarkedSo) {
  const PlotSeries solid{.name = "a", .x = {1, 2}, .y = {1, 2}},
      dashed{.name = "", .x = {2, 3}, .y = {2, 5}, .dashed = true};
  EXPECT_THAT(SvgPlot({solid}, {}), Not(HasSubstr("stroke-dasharray")));
  EXPECT_EQ(Count(SvgPlot({solid, dashed}, {}), "stroke-dasharray"), 1u);
}

}  // namespace
}  // namespace taipan
