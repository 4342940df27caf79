// Modelled times of whole steps, without a GPU.
#pragma once
#include "report.h"

namespace nd::cuda_bench {

/// Runs models of real size through the backend on a driver that computes nothing and adds up what each
/// launch would take: products as plan_product() has them, everything else by the rates of measured kernels
/// (docs/benchmarks-gpu.md). Once with the products of every GPU, once with Hopper's.
void model_steps(Report& report);

}  // namespace nd::cuda_bench
