// SPDX-License-Identifier: Apache-2.0
// Modules against the values that PyTorch computed once (docs/fixtures.md).
#include <boost/test/unit_test.hpp>

#include "autograd/backward.hpp"
#include "nn/models/hyena_moe_lm.hpp"
#include "ops/binary.hpp"
#include "tests/support/fixture.hpp"

namespace mahia::nn {
namespace {

using tests::check_gradients;
using tests::check_names;
using tests::check_near;
using tests::Fixture;

BOOST_AUTO_TEST_SUITE(reference_nn)

BOOST_AUTO_TEST_CASE(hyena_operators_agree_with_pytorch) {
  struct Case {
    const char* name;
    int64_t order, embedding, l_max;
  };
  for (const Case& c : {Case{"order2_emb33_length20_of_20", 2, 33, 20}, Case{"order2_emb3_length16_of_16", 2, 3, 16},
                        Case{"order2_emb5_length1_of_1", 2, 5, 1}, Case{"order2_emb5_length1_of_7", 2, 5, 7},
                        Case{"order2_emb5_length7_of_20", 2, 5, 20}, Case{"order3_emb3_length20_of_20", 3, 3, 20},
                        Case{"order3_emb5_length7_of_16", 3, 5, 16}, Case{"order4_emb5_length16_of_16", 4, 5, 16}}) {
    BOOST_TEST_CONTEXT(c.name) {
      const Fixture f(std::string("hyena_operator_") + c.name);
      const Tensor x = f["input.u"];
      HyenaConfig config{.width = x.size(2), .l_max = c.l_max, .order = c.order};
      config.filter.embedding = c.embedding;
      config.filter.hidden = f["state.filter_fn.implicit_filter.0.weight"].size(0);
      config.filter.inner_layers = 0;
      config.filter.train_positions = true;
      while (
          f.has("state.filter_fn.implicit_filter." + std::to_string(2 * config.filter.inner_layers + 4) + ".weight")) {
        ++config.filter.inner_layers;
      }
      HyenaOperator op(config);
      op.load_state_dict(f.state());
      Tensor u = x.detach().set_requires_grad(true);
      const Tensor y = op(u);
      check_near(y, f["output.y"], 1e-5, "y");
      backward({y}, {f["grad_output"]});
      check_near(u.grad(), f["grad.input.u"], 3e-5, "gradient of u");
      check_gradients(op, f, "grad.state.", 1e-4);
    }
  }
}

BOOST_AUTO_TEST_CASE(mixtures_of_experts_agree_with_pytorch) {
  struct Case {
    const char* name;
    RouterKind router;
    int64_t k;
    ExpertKind expert;
  };
  for (const Case& c : {Case{"r1_top1", RouterKind::pre_softmax, 1, ExpertKind::gelu},
                        Case{"r1_top2", RouterKind::pre_softmax, 2, ExpertKind::gelu},
                        Case{"r1_top2_swiglu", RouterKind::pre_softmax, 2, ExpertKind::swiglu},
                        Case{"r2_top2", RouterKind::post_softmax, 2, ExpertKind::gelu},
                        Case{"r2_top3_swiglu", RouterKind::post_softmax, 3, ExpertKind::swiglu}}) {
    BOOST_TEST_CONTEXT(c.name) {
      const Fixture f(std::string("moe_") + c.name);
      const Tensor up = f["state.experts.w_up"];
      SparseMoETopK moe({.width = up.size(2),
                         .hidden = up.size(1),
                         .num_experts = up.size(0),
                         .top_k = c.k,
                         .router = c.router,
                         .expert = c.expert});
      moe.load_state_dict(f.state());
      Tensor x = f["input.x"].detach().set_requires_grad(true);
      const MoeOutput out = moe(x);
      check_near(out.y, f["output.y"], 2e-6, "y");
      check_near(out.losses[AuxLoss::balance], f["output.switch_loss"], 2e-6, "switch loss");
      check_near(out.losses[AuxLoss::z_loss], f["output.z_loss"], 2e-6, "z-loss");
      BOOST_TEST((out.stats.counts.to_vector<int64_t>() == f["output.load"].to_vector<int64_t>()));
      backward({out.y}, {f["grad_output"]});
      check_near(x.grad(), f["grad.input.x"], 1e-5, "gradient of x");
      check_gradients(moe, f, "grad.state.", 1e-5);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_language_model_agrees_with_pytorch) {
  const Fixture f("hyena_moe_lm_tiny"), grads("hyena_moe_lm_tiny_grad");
  models::HyenaMoeLMConfig c{.vocab = 16, .width = 8, .layers = 2, .l_max = 12, .experts = 4, .top_k = 2, .hidden = 16};
  models::HyenaMoeLM model(c);
  check_names(model, "hyena_moe_lm_tiny");
  model.load_state_dict(f.state());
  check_near(model(f["input.ids"]), f["output.logits"], 1e-5, "logits");
  const auto out = model.loss(f["input.ids"], f["input.target"]);
  check_near(out.loss, f["output.cross_entropy"], 1e-6, "cross entropy");
  const Tensor loss = out.loss + out.aux * 0.02;
  check_near(loss, f["output.loss"], 1e-6, "loss");
  backward(loss);
  check_gradients(model, grads, "grad.state.", 1e-4);
}

BOOST_AUTO_TEST_CASE(names_and_counts_are_pytorchs) {
  check_names(models::HyenaMoeLM(
                  {.vocab = 256, .width = 128, .layers = 4, .l_max = 512, .experts = 8, .top_k = 2, .hidden = 256}),
              "hyena_moe_lm_cpu_tiny");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace mahia::nn
