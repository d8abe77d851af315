// SPDX-License-Identifier: Apache-2.0
#include "train/config.hpp"

#include <boost/test/unit_test.hpp>

#include "tests/support/op_spec.hpp"

namespace mahia::train {
namespace {

using tests::check_throws;

BOOST_AUTO_TEST_SUITE(run_config)

BOOST_AUTO_TEST_CASE(what_is_printed_reads_back) {
  const RunConfig config = parse_config(
      "[model]\nwidth = 48\nrouter = \"post_softmax\"\n[train]\nsteps = 30\n[train.lr]\nschedule = "
      "\"milestones\"\n"
      "milestones = [10, 20]\n[data]\ntext = 'a \"b\" c'\n",
      "test");
  const std::string toml = to_toml(config);
  const RunConfig again = parse_config(toml, "printed");
  BOOST_TEST(to_toml(again) == toml);
  BOOST_TEST(again.model.width == 48);
  BOOST_TEST((again.model.router == nn::RouterKind::post_softmax));
  BOOST_TEST((again.schedules.lr.milestones == std::vector<int64_t>{10, 20}));
  BOOST_TEST(again.text == "a \"b\" c");
}

BOOST_AUTO_TEST_CASE(every_option_of_the_operator_can_be_set) {
  const RunConfig config = parse_config(
      "[model]\nnum_heads = 2\ninner_factor = 2\nnum_blocks = 4\nshort_filter = 0\nouter_mixing = true\n"
      "activation = \"gelu\"\nconvolution = \"dyadic\"\nfilter_layers = 1\nfilter_shared_frequency = false\n"
      "filter_train_positions = true\nfilter_window = false\nfilter_train_window = true\nfilter_shift = 0.5\n"
      "filter_normalized = true\nfilter_skip = false\nfilter_dropout = 0.1\nfilter_extend_to = 600\n",
      "test");
  const nn::models::HyenaMoeLMConfig& m = config.model;
  BOOST_TEST((m.num_heads == 2 && m.inner_factor == 2 && m.num_blocks == 4 && m.short_filter == 0 && m.outer_mixing));
  BOOST_TEST((m.activation == nn::HyenaActivation::gelu && m.algorithm == ConvAlgorithm::dyadic));
  const nn::HyenaFilterConfig& f = m.filter;
  BOOST_TEST((f.inner_layers == 1 && !f.shared_frequency && f.train_positions && !f.window && f.train_window));
  BOOST_TEST((f.shift == 0.5 && f.normalized && !f.skip && f.dropout == 0.1 && f.extend_to == 600));
}

BOOST_AUTO_TEST_CASE(every_option_of_routers_and_capacities_can_be_set) {
  const RunConfig config = parse_config(
      "[model]\nexperts = 8\nexpert = \"gelu_erf\"\nexpert_bias = true\nrouter = \"sigmoid\"\n[model.routing]\n"
      "renormalize = \"no\"\nselect_bias = true\ngroups = 4\nkept_groups = 2\njitter = 0.01\nnoisy = true\n"
      "[model.capacity]\ntrain_factor = 1.25\neval_factor = 2\nminimum = 4\npriority = \"choice_major\"\n"
      "overflow = \"residual\"\n",
      "test");
  const nn::models::HyenaMoeLMConfig& m = config.model;
  BOOST_TEST((m.expert == nn::ExpertKind::gelu_erf && m.expert_bias && m.router == nn::RouterKind::sigmoid));
  BOOST_TEST((m.renormalize == false && m.routing.select_bias && m.routing.groups == 4 && m.routing.kept_groups == 2));
  BOOST_TEST((m.routing.jitter == 0.01 && m.routing.noisy));
  const nn::CapacityConfig& c = m.capacity;
  BOOST_TEST((c.train_factor == 1.25 && c.eval_factor == 2 && c.minimum == 4));
  BOOST_TEST((c.priority == nn::SlotPriority::choice_major && c.overflow == nn::Overflow::residual));
  BOOST_TEST(to_toml(parse_config(to_toml(config), "printed")) == to_toml(config));
  BOOST_TEST(!parse_config("", "empty").model.renormalize.has_value());
}

BOOST_AUTO_TEST_CASE(each_auxiliary_loss_has_a_schedule_of_its_own) {
  const RunConfig config = parse_config(
      "[model]\nlayers = 2\n[train]\nsteps = 50\n[train.aux.switch]\nschedule = \"pi\"\ntarget = 0.2\n"
      "metric = \"drop_rate\"\nper_layer = true\n[train.aux.z_loss]\npeak = 0.001\nlayers = [1, 0.5]\n"
      "[train.aux.entropy]\nschedule = \"sequence\"\n[[train.aux.entropy.stages]]\npeak = 0.5\nsteps = 10\n"
      "[[train.aux.entropy.stages]]\nschedule = \"linear\"\npeak = 0.5\n",
      "test");
  const AuxSchedules& aux = config.schedules.aux;
  BOOST_TEST((aux.balance.kind == ScheduleKind::pi && aux.balance.feedback.target == 0.2));
  BOOST_TEST((aux.balance.feedback.metric == nn::Imbalance::drop_rate && aux.balance.feedback.per_layer));
  BOOST_TEST((aux.balance.layers == std::vector<double>{1, 1}));
  BOOST_TEST((aux.z_loss.layers == std::vector<double>{1, 0.5}));
  BOOST_TEST(aux.entropy.at(9) == 0.5);
  BOOST_TEST(aux.entropy.at(30) == 0.25);  // half of the stage that ends with the run
  BOOST_TEST((config.model.losses.contains(nn::AuxLoss::entropy) && config.model.losses.contains(nn::AuxLoss::z_loss)));
  BOOST_TEST((!config.model.losses.contains(nn::AuxLoss::variance) && !aux.variance.is_on()));
  const std::string toml = to_toml(config);
  BOOST_TEST(to_toml(parse_config(toml, "printed")) == toml);
  BOOST_TEST(to_text(parse_config(toml, "printed").schedules) == to_text(config.schedules));
  BOOST_TEST(toml.find("train.aux.variance") == toml.npos);  // is switched off
  const RunConfig inlined = read_config("", {"train.lr.schedule=sequence", "train.lr.stages=[{peak = 2.0}]"});
  BOOST_TEST(inlined.schedules.lr.at(7) == 2);
}

BOOST_AUTO_TEST_CASE(schedules_end_with_the_run_unless_they_say_otherwise) {
  const RunConfig config =
      parse_config("[train]\nsteps = 30\n[train.aux.switch]\nschedule = \"linear\"\nsteps = 20\n", "test");
  BOOST_TEST(config.schedules.lr.steps == 30);
  BOOST_TEST(config.schedules.aux.balance.steps == 20);
}

BOOST_AUTO_TEST_CASE(the_configurations_in_the_tree_are_valid) {
  for (const char* name : {"kjv_demo", "tiny"}) {
    const std::string path = std::string(MAHIA_SOURCE_DIR) + "/train/configs/" + name + ".toml";
    BOOST_TEST(read_config(path).text == "data/kjv.txt");
    BOOST_TEST(read_config(path, {"data.text=other.txt", "train.steps=70"}).text == "other.txt");
  }
}

BOOST_AUTO_TEST_CASE(a_genome_has_few_tokens_and_sequences_may_grow) {
  const RunConfig config = read_config(std::string(MAHIA_SOURCE_DIR) + "/train/configs/dna.toml");
  BOOST_TEST(config.model.vocab == dna_vocabulary().size);
  BOOST_TEST(config.model.l_max == 8192);
  BOOST_TEST_REQUIRE(config.warmup_stages.size() == 3u);
  for (const SequenceStage& stage : config.warmup_stages) {
    BOOST_TEST(stage.sequence_length * stage.batch_size == config.sequence_length * config.batch_size);
  }
}

BOOST_AUTO_TEST_CASE(faults_name_place_key_and_what_is_allowed) {
  const auto refused = [](const std::string& toml, const std::string& text) {
    check_throws<ValueError>([&] { parse_config(toml, "my.toml"); }, text);
  };
  refused("[train]\nstep = 3\n", "my.toml:2: unknown key `train.step`; did you mean `train.steps`?");
  refused("[train]\nsteps = 0\n", "my.toml:2: train.steps must be a whole number from 1 to");
  refused("[train]\nsteps = 1.5\n", "train.steps must be a whole number");
  refused("[model]\nexpert = \"relu\"\n", "model.expert is `relu`, must be one of gelu, gelu_erf, swiglu");
  refused("[model]\ntie_head = 1\n", "model.tie_head must be true or false");
  refused("[model]\nexperts = 2\ntop_k = 3\n", "model.top_k is 3, more than the 2 of model.experts");
  refused("[model]\nfilter_embedding = 8\n", "model.filter_embedding is 8, must be odd");
  refused("[model]\nconvolution = \"slow\"\n",
          "model.convolution is `slow`, must be one of automatic, fft, dyadic, direct");
  refused("[model]\nwidth = 48\nnum_heads = 5\n", "model.num_heads is 5, must divide the 48 of model.width");
  refused("[model]\nnum_blocks = 5\n", "model.num_blocks is 5, must divide the 512 of train.sequence_length");
  refused("[model]\nfilter_extend_to = 511\n", "model.filter_extend_to is 511, less than the 512 of");
  refused("[model]\nrouter = \"sinkhorn\"\n", "model.router is `sinkhorn`, which a causal model refuses");
  refused("[model]\nrouter = \"expert_choice\"\n", "model.router is `expert_choice`, which a causal model refuses");
  refused("[model]\nrouter = \"hash\"\n", "train.aux.switch weights a loss of the router, and a hash router learns");
  refused("[model.capacity]\ntrain_factor = 1.0\ntile = 128\n", "model.capacity.tile rounds what has no limit");
  refused("[model.routing]\ngroups = 3\n", "model.routing.groups is 3, must divide the 8 of model.experts");
  refused("[model.routing]\nkept_groups = 2\n", "model.routing.kept_groups is 2, more than the 1 of");
  refused("[model]\ntop_k = 3\n[model.routing]\ngroups = 4\n", "model.top_k is 3, more than the 2 experts in 1 kept");
  refused("[model.capacity]\ntrain_factor = 1e-9\n", "model.capacity.train_factor is 1e-09, must be 0 (no limit) or");
  refused("[model.capacity]\noverflow = \"residual\"\n", "mean nothing without a train_factor or eval_factor");
  refused("[model.capacity]\noverflow = \"spill\"\n",
          "model.capacity.overflow is `spill`, must be one of drop, drop_renormalise, residual, shared, reroute");
  refused("[train.aux]\npeak = 0.1\n", "unknown key `train.aux.peak`; did you mean");
  refused("[train.lr]\nschedule = \"pi\"\n", "my.toml:2: train.lr.schedule is `pi`, must be one of constant");
  refused("[train.aux.switch]\nschedule = \"pi\"\nsmoothing = 1\n", "my.toml:3: train.aux.switch.smoothing must be");
  refused("[train.aux.switch]\nlayers = [1]\n", "train.aux.switch.layers has 1 factors, the model has 4 layers");
  refused("[train.aux.switch]\nstages = 1\n", "my.toml:2: train.aux.switch.stages must be a list of tables, [[");
  refused("[[train.aux.switch.stages]]\npeek = 1\n", "my.toml:2: unknown key `train.aux.switch.stages.peek`; did you");
  refused("[[train.aux.switch.stages]]\npeak = 1\n", "stages are for schedule `sequence`, not `constant`");
  refused("[train.lr]\nschedule = \"sequence\"\n[[train.lr.stages]]\n[[train.lr.stages]]\n",
          "train.lr, stage 1: needs its length in `steps`");
  refused("[model]\nz_loss = 0.1\n[train.aux.z_loss]\npeak = 0.1\n", "both weight the z-loss; set one of them");
  refused("[train]\nsteps = 5\n[train.lr]\nwarmup = 5\n", "train.lr: cosine ends at step 5");
  refused("[train\n", "my.toml:1: ");
  refused("[model]\nvocab = 255\n", "model.vocab is 255, data.format `text` has 256 tokens");
  refused("[data]\nboth_strands = true\n", "data.both_strands is for data.format `fasta`");
  refused("[train.sequence_warmup]\nstage_steps = [5]\n", "must be as many as each other: 1, 0, 0");
  refused("[train.sequence_warmup]\nstage_steps = [5]\nlengths = [1024]\nbatch_sizes = [1]\n",
          "train.sequence_warmup: length 1024 exceeds train.sequence_length 512");
  check_throws<IoError>([] { read_config("/missing/file.toml"); }, "/missing/file.toml: cannot open");
  check_throws<ValueError>([] { read_config("", {"train.steps"}); }, "--set train.steps: expected KEY=VALUE");
  check_throws<ValueError>([] { read_config("", {"train.widht=3"}); }, "unknown key `train.widht`");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::train
