// SPDX-License-Identifier: Apache-2.0
#include "train/svg.hpp"

#include <fmt/format.h>

#include <cmath>

namespace mahia::train {
namespace {

std::string escaped(std::string_view words) {
  std::string out;
  for (const char c : words) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace

Svg::Svg(double width, double height) : width_(width), height_(height) { rectangle(0, 0, width, height, "#ffffff"); }

void Svg::rectangle(double x, double y, double width, double height, const std::string& fill) {
  body_ += fmt::format("<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"{}\"/>\n", x, y,
                       width, height, fill);
}

void Svg::line(double x1, double y1, double x2, double y2, const std::string& colour, double width,
               const char* dashes) {
  body_ += fmt::format(
      "<line x1=\"{:.2f}\" y1=\"{:.2f}\" x2=\"{:.2f}\" y2=\"{:.2f}\" stroke=\"{}\" stroke-width=\"{}\"{}/>\n", x1, y1,
      x2, y2, colour, width, *dashes ? fmt::format(" stroke-dasharray=\"{}\"", dashes) : "");
}

void Svg::polyline(const std::vector<Point>& points, const std::string& colour, double width, double opacity) {
  body_ += fmt::format(
      "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-opacity=\"{}\" "
      "stroke-linejoin=\"round\" points=\"",
      colour, width, opacity);
  for (const Point& p : points) body_ += fmt::format("{:.2f},{:.2f} ", p.x, p.y);
  body_ += "\"/>\n";
}

void Svg::dot(Point centre, double radius, const std::string& fill) {
  body_ += fmt::format("<circle cx=\"{:.2f}\" cy=\"{:.2f}\" r=\"{}\" fill=\"{}\" stroke=\"#ffffff\"/>\n", centre.x,
                       centre.y, radius, fill);
}

void Svg::text(double x, double y, std::string_view words, const TextStyle& style) {
  static constexpr const char* anchors[] = {"start", "middle", "end"};
  body_ += fmt::format(
      "<text x=\"{:.2f}\" y=\"{:.2f}\" font-size=\"{}\" fill=\"{}\" text-anchor=\"{}\"{}{}>{}</text>\n", x, y,
      style.size, style.colour, anchors[static_cast<int>(style.anchor)], style.bold ? " font-weight=\"600\"" : "",
      style.angle != 0 ? fmt::format(" transform=\"rotate({} {:.2f} {:.2f})\"", style.angle, x, y) : "",
      escaped(words));
}

std::string Svg::str() const {
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" "
      "height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"Helvetica, Arial, 'DejaVu Sans', "
      "sans-serif\">\n{2}</svg>\n",
      width_, height_, body_);
}

std::vector<double> round_ticks(double low, double high, int count) {
  if (!(high > low)) return {low};
  const double raw = (high - low) / count, power = std::pow(10, std::floor(std::log10(raw)));
  double step = power;
  for (const double factor : {1.0, 2.0, 5.0, 10.0}) {
    step = factor * power;
    if (step >= raw * 0.999) break;
  }
  std::vector<double> ticks;
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k)
    ticks.push_back(k * step + 0.0);  // + 0.0 turns -0 into 0
  return ticks;
}

std::string tick_label(double value) {
  if (value != 0 && std::abs(value) < 1e-12) value = 0;
  return fmt::format("{:.6g}", value);
}

}  // namespace mahia::train
