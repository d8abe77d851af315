// SPDX-License-Identifier: Apache-2.0
#include "train/plot.hpp"

#include <boost/test/unit_test.hpp>

namespace mahia::train {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

bool contains(const std::string& text, const std::string& part) { return count(text, part) > 0; }

BOOST_AUTO_TEST_SUITE(plot)

BOOST_AUTO_TEST_CASE(the_loss_chart_shows_every_held_out_point_and_reference) {
  const LossChart none{.title = "a & b", .train = {{1, 8}, {100, 2.5}}, .held_out = {}, .references = {}};
  LossChart chart = none;
  chart.held_out = {{0, 8.1}, {50, 4}, {100, 2.75}};
  chart.references = {{"gzip", 2.367}, {"Witten-Bell", 2.396}};
  const std::string svg = loss_svg(chart);
  BOOST_TEST(svg.starts_with("<?xml"));
  BOOST_TEST(svg.ends_with("</svg>\n"));
  BOOST_TEST(count(svg, "<circle") == count(loss_svg(none), "<circle") + 3);
  for (const char* words : {"a &amp; b", "gzip 2.367", "Witten-Bell 2.396", "last 2.750", "bits per byte"}) {
    BOOST_TEST(contains(svg, words), words);
  }
  BOOST_TEST(!contains(svg, "nan"));
}

BOOST_AUTO_TEST_CASE(the_load_chart_has_one_cell_per_layer_step_and_expert) {
  const std::vector<std::vector<double>> fair = {{0.25, 0.25, 0.25, 0.25}};
  const std::vector<std::vector<double>> skewed = {{1, 0, 0, 0}, {0.25, 0.25, 0.25, 0.25}, {0, 0.5, 0.5, 0}};
  const std::string one = load_svg({.title = "load", .steps = {1}, .share = {fair}});
  const std::string two = load_svg({.title = "load", .steps = {1, 2, 3}, .share = {skewed, skewed}});
  BOOST_TEST(count(two, "<rect") == count(one, "<rect") + 2 * 3 * 4 - 4);
  BOOST_TEST(contains(two, "layer 0"));
  BOOST_TEST(contains(two, "layer 1"));
  BOOST_TEST(count(one, "#ffffff") == 4 + count(load_svg({.title = "load", .steps = {}, .share = {}}), "#ffffff"));
}

BOOST_AUTO_TEST_CASE(curves_stand_in_a_frame_that_fits_them) {
  CurveChart chart{.title = "c", .x_title = "x", .y_title = "y", .y_high = 0};
  chart.curves = {{"one", {{0, 0.1}, {10, 6.5}}}, {"two", {{0, 1}}}};
  chart.references = {{"aim", 7.25}};
  const std::string svg = curves_svg(chart);
  for (const char* words : {"one", "two", "aim 7.250", ">6<"}) BOOST_TEST(contains(svg, words), words);
  chart.log_y = true;
  chart.curves[0].second = {{0, 1e-4}, {5, 0}, {10, 0.5}};
  chart.references.clear();
  const std::string decades = curves_svg(chart);
  for (const char* words : {">0.0001<", ">0.01<", ">1<"}) BOOST_TEST(contains(decades, words), words);
  BOOST_TEST((!contains(decades, "nan") && !contains(decades, "inf")));
  chart.curves.clear();
  BOOST_TEST(!contains(curves_svg(chart), "nan"));
}

BOOST_AUTO_TEST_CASE(empty_charts_are_still_pictures) {
  BOOST_TEST(!contains(loss_svg({.title = "", .train = {}, .held_out = {}, .references = {}}), "nan"));
  BOOST_TEST(!contains(load_svg({.title = "", .steps = {}, .share = {}}), "nan"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
