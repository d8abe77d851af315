// SPDX-License-Identifier: Apache-2.0
#include "train/schedule.hpp"

#include <boost/test/unit_test.hpp>

#include "core/error.hpp"
#include "tests/support/op_spec.hpp"

namespace mahia::train {
namespace {

BOOST_AUTO_TEST_SUITE(schedule)

namespace tt = boost::test_tools;

void check_values(const Schedule& s, const std::vector<std::pair<int64_t, double>>& expected) {
  s.validate("test");
  for (const auto& [step, value] : expected) {
    BOOST_TEST_CONTEXT(name_of(s.kind) << " at step " << step) {
      BOOST_TEST(s.at(step) == value, tt::tolerance(1e-12));
    }
  }
}

BOOST_AUTO_TEST_CASE(constant_stays) { check_values({.peak = 0.3}, {{0, 0.3}, {1000000, 0.3}}); }

BOOST_AUTO_TEST_CASE(warmup_comes_before_any_form) {
  for (const auto kind : {ScheduleKind::constant, ScheduleKind::linear, ScheduleKind::cosine, ScheduleKind::exponential,
                          ScheduleKind::polynomial, ScheduleKind::warmup_hold_decay, ScheduleKind::milestones}) {
    check_values({.kind = kind, .peak = 1, .final = 0.5, .steps = 20, .warmup = 4},
                 {{0, 0.2}, {1, 0.4}, {2, 0.6}, {3, 0.8}, {4, 1.0}});
  }
}

BOOST_AUTO_TEST_CASE(linear_cosine_and_exponential_end_where_they_should) {
  check_values({.kind = ScheduleKind::linear, .peak = 1, .final = 0, .steps = 10},
               {{0, 1}, {5, 0.5}, {10, 0}, {99, 0}});
  check_values({.kind = ScheduleKind::cosine, .peak = 3, .final = 1, .steps = 10}, {{0, 3}, {5, 2}, {10, 1}, {99, 1}});
  check_values({.kind = ScheduleKind::exponential, .peak = 1, .final = 0.01, .steps = 10},
               {{0, 1}, {5, 0.1}, {10, 0.01}, {99, 0.01}});
}

BOOST_AUTO_TEST_CASE(warmup_hold_decay_holds) {
  check_values({.kind = ScheduleKind::warmup_hold_decay, .peak = 2, .final = 0, .steps = 20, .warmup = 3, .hold = 7},
               {{3, 2}, {9, 2}, {10, 2}, {15, 1}, {20, 0}, {21, 0}});
}

BOOST_AUTO_TEST_CASE(every_way_to_the_final_value_begins_after_the_hold) {
  check_values({.kind = ScheduleKind::linear, .peak = 2, .final = 1, .steps = 14, .warmup = 1, .hold = 3},
               {{0, 1}, {1, 2}, {4, 2}, {9, 1.5}, {14, 1}});
  check_values({.kind = ScheduleKind::cosine, .peak = 2, .final = 1, .steps = 13, .hold = 3},
               {{0, 2}, {3, 2}, {8, 1.5}, {13, 1}});
  check_values({.kind = ScheduleKind::exponential, .peak = 1, .final = 0.01, .steps = 13, .hold = 3},
               {{3, 1}, {8, 0.1}, {13, 0.01}});
}

BOOST_AUTO_TEST_CASE(a_polynomial_bends_the_line) {
  check_values({.kind = ScheduleKind::polynomial, .peak = 3, .final = 1, .steps = 10, .power = 2},
               {{0, 3}, {5, 1.5}, {9, 1.02}, {10, 1}, {11, 1}});
  check_values({.kind = ScheduleKind::polynomial, .peak = 1, .steps = 4, .power = 0.5}, {{0, 1}, {3, 0.5}, {4, 0}});
}

BOOST_AUTO_TEST_CASE(a_sequence_runs_its_stages_one_after_the_other) {
  check_values({.kind = ScheduleKind::sequence,
                .stages = {{.peak = 4, .steps = 3, .warmup = 1},
                           {.kind = ScheduleKind::linear, .peak = 3, .final = 1, .steps = 4},
                           {.kind = ScheduleKind::milestones, .peak = 10, .milestones = {2}}}},
               {{0, 2}, {1, 4}, {2, 4}, {3, 3}, {5, 2}, {6, 1.5}, {7, 10}, {8, 10}, {9, 1}, {1000, 1}});
}

BOOST_AUTO_TEST_CASE(milestones_multiply) {
  check_values({.kind = ScheduleKind::milestones, .peak = 1, .gamma = 0.5, .milestones = {10, 20}},
               {{0, 1}, {9, 1}, {10, 0.5}, {19, 0.5}, {20, 0.25}});
}

BOOST_AUTO_TEST_CASE(nonsense_is_refused) {
  using tests::check_throws;
  check_throws<ValueError>([] { Schedule{.peak = -1}.validate("lr"); }, "lr: peak is -1, must be a number >= 0");
  check_throws<ValueError>([] { Schedule{.kind = ScheduleKind::cosine, .steps = 5, .warmup = 5}.validate("lr"); },
                           "lr: cosine ends at step 5, inside its warm-up and hold of 5 steps");
  check_throws<ValueError>([] { Schedule{.kind = ScheduleKind::exponential, .steps = 5}.validate("lr"); },
                           "exponential needs peak and final above 0");
  check_throws<ValueError>([] { Schedule{.kind = ScheduleKind::polynomial, .steps = 5, .power = 0}.validate("lr"); },
                           "lr: power is 0, must be above 0");
  check_throws<ValueError>([] { Schedule{.kind = ScheduleKind::sequence}.validate("lr"); },
                           "lr: a sequence needs stages");
  check_throws<ValueError>(
      [] {
        Schedule{.kind = ScheduleKind::sequence, .stages = {{.peak = 1}, {}}}.validate("lr");
      },
      "lr, stage 1: needs its length in `steps`");
  check_throws<ValueError>(
      [] { Schedule{.kind = ScheduleKind::sequence, .stages = {{.kind = ScheduleKind::pi}}}.validate("lr"); },
      "lr, stage 1: is a function of the step alone");
  check_throws<ValueError>([] { schedule_kind("cosin"); },
                           "schedule: unknown `cosin`; known: constant, linear, cosine");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
