// The products of product.cu on Hopper: one warp has the tensor copy engine fetch boxes of x and of the
// weights, and two warpgroups multiply them, 64 rows each. Padding costs nothing: the engine writes zeros for
// what lies outside of the image.
#include "cuda/kernels/epilogue.h"
#include "cuda/kernels/hopper.h"

// The instructions are those of sm_90a alone; elsewhere the kernels do not exist.
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)

namespace nd::cuda {

template <int Columns, int Stages>
DEVICE void product_hopper(const HopperProductArgs& args) {
  constexpr int NT = Columns / 8, GroupRows = kHopperRows / 2, Warps = 8;
  constexpr int StepBytes = (kHopperRows + Columns) * kHopperK * 2;
  struct Shared {
    half a[Stages][kHopperRows * kHopperK], b[Stages][Columns * kHopperK];
    uint64_t full[Stages], empty[Stages], done;
  };
  Shared& s = shared_memory<Shared>();
  const ProductArgs& p = args.product;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int parity = blockIdx.z / p.splits, split = blockIdx.z % p.splits;
  const int first_step = split * p.split_steps, steps = min(p.split_steps, args.steps - first_step);
  const int box_pixels = args.box_w * args.box_h, box_n = kHopperRows / box_pixels;
  const int column = blockIdx.x % args.boxes_w, row = blockIdx.x / args.boxes_w % args.boxes_h;
  const int x0 = column * args.box_w, y0 = row * args.box_h;
  const int image0 = static_cast<int>(blockIdx.x) / args.boxes_w / args.boxes_h * box_n;
  const int o0 = blockIdx.y * Columns;

  if (threadIdx.x == 0) {
    for (int i = 0; i < Stages; ++i) barrier_init(&s.full[i], 1), barrier_init(&s.empty[i], Warps);
    barrier_init(&s.done, Warps);
    fence_barrier_init();
  }
  __syncthreads();

  const auto all_warps = [] { __syncthreads(); };
  const TensorMap* weights = reinterpret_cast<const TensorMap*>(&args.weights);
  // Of the first step.
  const int first_tap = first_step / args.steps_per_tap,
            first_piece = first_step - first_tap * args.steps_per_tap;
  const auto fetch_weights = [&](int stage, int tap, int piece) {
    barrier_expect(&s.full[stage], StepBytes);
    tensor_copy_3d(s.b[stage], weights, &s.full[stage], piece * kHopperK, tap, parity * p.o + o0);
  };
  // While the previous kernel ends, weights that no kernel writes are on their way for as many steps as there
  // is room for.
  const int early = p.constant_weights ? min(steps, Stages) : 0;
  if (warp == Warps) {
    if (lane == 0)
      for (int step = 0, tap = first_tap, piece = first_piece; step < early; ++step) {
        fetch_weights(step, tap, piece);
        if (++piece == args.steps_per_tap) piece = 0, ++tap;
      }
    __syncwarp();
  }
  follow_previous();

  if (warp == Warps) {
    if (lane == 0) {
      const TensorMap *x = reinterpret_cast<const TensorMap*>(&args.x),
                      *second = reinterpret_cast<const TensorMap*>(&args.second);
      const int from_x = x0 - p.pad_x + parity % 2, from_y = y0 - p.pad_y + parity / 2;
      int tap = first_tap, piece = first_piece;
      int dy = tap / p.kernel_w, dx = tap - dy * p.kernel_w, stage = 0;
      uint32_t phase = 1;  // the first round finds all stages empty
      for (int step = 0; step < steps; ++step) {
        if (step >= Stages) barrier_wait(&s.empty[stage], phase);
        if (step >= early) fetch_weights(stage, tap, piece);
        const int beyond = piece - args.first_steps;
        tensor_copy_4d(s.a[stage], beyond < 0 ? x : second, &s.full[stage],
                       (beyond < 0 ? piece : beyond) * kHopperK, from_x + dx, from_y + dy, image0);
        if (++piece == args.steps_per_tap) {
          piece = 0, ++tap;
          if (++dx == p.kernel_w) dx = 0, ++dy;
        }
        if (++stage == Stages) stage = 0, phase ^= 1;
      }
    }
    __syncwarp();
    if (p.moments) all_warps();
    return;
  }

  float sum[NT][4];
#pragma unroll
  for (int n = 0; n < NT; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[n][i] = 0;
  const int group_row = warp / 4 * GroupRows;
  int stage = 0, previous = 0;
  uint32_t phase = 0;
  for (int step = 0; step < steps; ++step) {
    barrier_wait(&s.full[stage], phase);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kHopperK; k += 16)
      wgmma(sum, matrix_descriptor(s.a[stage] + group_row * kHopperK + k), matrix_descriptor(s.b[stage] + k));
    wgmma_commit();
    // The step before is done; this one goes on while the next boxes are waited for.
    wgmma_wait<1>();
    if (step > 0 && lane == 0) barrier_arrive(&s.empty[previous]);
    previous = stage;
    if (++stage == Stages) stage = 0, phase ^= 1;
  }
  wgmma_wait<0>();
  // The boxes' memory is free for the epilogue when both warpgroups have read the last one.
  if (lane == 0) barrier_arrive(&s.done);
  barrier_wait(&s.done, 0);

  constexpr int Staging = 16 * kFragmentPitch<NT>;
  static_assert((Warps * Staging + kBlockMomentFloats<NT, Warps, 1>)*4 <= Stages * StepBytes,
                "the epilogue needs more shared memory");
  float* staging = reinterpret_cast<float*>(&s) + warp * Staging;
  const auto m_of = [&](int r) {
    const int at = warp * 16 + r, image = image0 + at / box_pixels, pixel = at % box_pixels;
    const int y = y0 + pixel / args.box_w, x = x0 + pixel % args.box_w;
    const bool inside = image < args.images && y < args.grid_h && x < args.grid_w;
    return inside ? (image * args.grid_h + y) * args.grid_w + x : -1;
  };
  WarpMoments<NT> moments;
  const auto put = [&] { stage_fragments<NT>(sum, staging, lane); };
  finish_fragments<NT>(p, put, staging, m_of, o0, lane, parity, split, moments);
  if (!p.moments) return;
  store_block_moments<NT, Warps, 1>(p, moments, reinterpret_cast<float*>(&s) + Warps * Staging, threadIdx.x,
                                    o0, piece_of_tile(p, blockIdx.x, parity), all_warps);
}

}  // namespace nd::cuda

ND_FOLLOWING_KERNEL(product_hopper_128, HopperProductArgs, nd::cuda::kHopperThreads, 2,
                    nd::cuda::product_hopper<128, nd::cuda::kHopperTiles[0].stages>)
ND_FOLLOWING_KERNEL(product_hopper_256, HopperProductArgs, nd::cuda::kHopperThreads, 1,
                    nd::cuda::product_hopper<256, nd::cuda::kHopperTiles[1].stages>)
// Two of its tiles cover the 320 channels of a UNet's largest latents exactly.
ND_FOLLOWING_KERNEL(product_hopper_160, HopperProductArgs, nd::cuda::kHopperThreads, 1,
                    nd::cuda::product_hopper<160, nd::cuda::kHopperTiles[2].stages>)

#endif
