// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mahia::train {

// The part of SVG that charts need. Coordinates are pixels from the upper left; text is escaped.
class Svg {
 public:
  Svg(double width, double height);

  enum class Anchor { start, middle, end };
  struct TextStyle {
    double size = 13;
    const char* colour = "#3b4252";
    Anchor anchor = Anchor::start;
    bool bold = false;
    double angle = 0;  // degrees, clockwise around the text's own anchor
  };

  void rectangle(double x, double y, double width, double height, const std::string& fill);
  void line(double x1, double y1, double x2, double y2, const std::string& colour, double width = 1,
            const char* dashes = "");
  struct Point {
    double x, y;
  };
  void polyline(const std::vector<Point>& points, const std::string& colour, double width, double opacity = 1);
  void dot(Point centre, double radius, const std::string& fill);
  void text(double x, double y, std::string_view words, const TextStyle& style);
  // The whole document.
  std::string str() const;

 private:
  double width_, height_;
  std::string body_;
};

// Round tick positions (1, 2 or 5 times a power of ten apart), about `count` of them, inside [low, high].
std::vector<double> round_ticks(double low, double high, int count);
// A number as an axis shows it: 2.5, 1000, 0.001.
std::string tick_label(double value);

}  // namespace mahia::train
