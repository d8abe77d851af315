// SPDX-License-Identifier: Apache-2.0
#define BOOST_TEST_MODULE mahia
#include <boost/test/results_collector.hpp>
#include <boost/test/unit_test.hpp>
#include <iostream>

#include "core/random.hpp"

namespace {

// Before each case: the same random numbers, whichever cases ran before. After a failing one: the line that runs it
// again.
class EachCase : public boost::unit_test::test_observer {
 public:
  void test_unit_start(const boost::unit_test::test_unit&) override { mahia::manual_seed(0); }
  void test_unit_finish(const boost::unit_test::test_unit& unit, unsigned long) override {
    using namespace boost::unit_test;
    if (unit.p_type != TUT_CASE || results_collector.results(unit.p_id).passed()) return;
    std::cerr << "run it again: " << framework::master_test_suite().argv[0] << " --run_test=" << unit.full_name()
              << '\n';
  }
};

// Stays registered: the framework destroys this object while it walks its observers.
struct WithEachCase {
  WithEachCase() {
    static EachCase each;
    boost::unit_test::framework::register_observer(each);
  }
};

BOOST_TEST_GLOBAL_CONFIGURATION(WithEachCase);

}  // namespace
