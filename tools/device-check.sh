#!/bin/bash
# The check for an NVIDIA GPU, in at most 8 minutes on one H100 or H200: builds, compares every imitated instruction, kernel
# and model with the CPU, times kernels, UNet steps and whole pictures, and PyTorch beside them. Results: $OUT/device-check.json,
# which is written anew after each step, and the logs. What matters most comes first; each step has its own limit, and a
# failing one does not stop the others.
#
# Seconds that are expected on an H200 with 16 cores: build and tests 90, our models and pictures 75, PyTorch 40, compiled for
# SD 1.5 at 512×512 85; more of our models 30, compiled for SDXL 110, tiles of products 30; 460 in all. What the deadline then
# leaves is for SD 1.5 compiled at 1024×1024 and the checks behind it. A step that has less than half of its limit left is
# skipped, and named as skipped in the JSON.
#
# Needs nvcc 12 or newer, g++, cmake, ninja; for the comparison python3 with torch, and diffusers from wheels in .whl/
# (python3 -m pip download --no-deps -d .whl diffusers importlib_metadata). With transformers, PyTorch's pictures have text
# encoders. Nothing is downloaded.
#
#   OUT=results tools/device-check.sh             on a machine with a GPU
#   OUT=results tools/device-check.sh emulated    tries the script itself: the emulator's times say nothing
#   SKIP='torch|race' …                           leaves out the steps whose names match
set -u
cd "$(dirname "$0")/.."
device=${1:-cuda}
OUT=${OUT:-build/device-check}
mkdir -p "$OUT"
build=${ND_BUILD:-$(mktemp -d)}
site=$(mktemp -d)
work=$(mktemp -d)
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
# Limits are those of a machine with a GPU and many cores.
limit_factor=1
[[ $device == emulated ]] && limit_factor=6
deadline=$((470 * limit_factor))
: >"$work/steps"

# What comes back are two files, whenever the script is stopped.
collect() {
  python3 tools/bench/device_report.py "$work" "$OUT/device-check.json"
  tar -czf "$OUT/logs.tgz" -C "$work" steps $(cd "$work" && ls | grep -E '\.log$')
}

# step NAME SECONDS COMMAND…: runs it under a limit, its output to a log of its own; says how it ended.
step() {
  local name=$1 limit=$(($2 * limit_factor)) begin=$SECONDS status=0
  shift 2
  [[ -n ${SKIP:-} && $name =~ $SKIP ]] && return 0
  local left=$((deadline - begin))
  if ((2 * left < limit)); then
    echo "$name skipped 0" >>"$work/steps"
    echo "== $name: skipped, ${left} s are left"
    collect
    return 0
  fi
  timeout -k 5 $((limit < left ? limit : left)) "$@" >"$work/$name.log" 2>&1 || status=$?
  echo "$name $status $((SECONDS - begin))" >>"$work/steps"
  echo "== $name: status $status, $((SECONDS - begin)) s"
  grep -E "passed|FAIL|fault|ERROR|it/s|models |pictures |Hopper's|Overlap|left out" "$work/$name.log" |
    tail -n "${LINES_SHOWN:-12}"
  collect
  return $status
}

architecture=90
if [[ $device == cuda ]]; then
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,memory.total --format=csv,noheader | tee "$work/card"
  architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '.')
  cuda=ON
else
  cuda=OFF
fi
bench=(--device "$device")
torch=()
if [[ $device == emulated ]]; then
  bench+=(--shrink 8 --repetitions 1)
  torch=(--device cpu --small)
fi
# Tensor copies and wgmma exist only in the architecture-specific form.
[[ $architecture == 90 ]] && architecture=90a

step configure 60 cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DND_TESTS=ON -DND_CUDA=$cuda \
  -DND_CUDA_ARCHITECTURES="$architecture" -DND_CUDA_TEST_ARCHITECTURES="$architecture"
targets=(engine-tests cuda-bench)
[[ $cuda == ON ]] && targets+=(cuda-kernels cuda-test-kernels)
if ! step build 200 ninja -C "$build" "${targets[@]}"; then
  tail -n 30 "$work/configure.log" "$work/build.log"
  exit 1
fi
tests=("$build/engine-tests" --device "$device")
measure=("$build/cuda-bench" "${bench[@]}")
# Does the emulator imitate each instruction rightly? Bit by bit.
step instructions 40 "${tests[@]}" cuda/instruction
step kernels 90 "${tests[@]}" cuda/
step models 60 "${measure[@]}" unet vae --check --json "$work/models.json"
# Whole pictures, with what the trials choose that loading a model makes; their memory, too.
step pictures 60 "${measure[@]}" trial pictures --json "$work/pictures.json"
step pictures-quantized 40 "${measure[@]}" trial pictures --weights q8_0 --size 512 --json "$work/pictures-quantized.json"
step sdxl 90 "${measure[@]}" trial unet pictures --model sdxl --json "$work/sdxl.json"
# The package itself, where the machine has Node and what it needs was carried: dist, build/Release with the addon and its
# kernels (npm run build, npm run build:cuda), and the runtime dependencies.
if command -v node >/dev/null && [[ -d dist && -e build/Release/node_diffusion.node && -d node_modules ]]; then
  api=(node tools/device-api.mjs --json "$work/api.json")
  if [[ $device == emulated ]]; then
    export NODE_DIFFUSION_CUDA_DRIVER=$PWD/build/Release/libcuda-emulated-driver.so
    # It finds its kernels by name.
    node -e 'process.stdout.write(require("zlib").brotliCompressSync("[[\"sm_80.cubin\",7]]\nkernels"))' >"$site/kernels.br"
    export NODE_DIFFUSION_CUDA_KERNELS=$site
    api+=(--steps 1)
  fi
  step api 60 "${api[@]}"
fi
# compiled CASE SECONDS: most of the time is that of the compiler.
python=0
compiled() {
  ((python)) && step "torch-compiled-$1" "$2" python3 tools/bench/torch_models.py compiled "$1" "${torch[@]}" \
    --json "$work/torch-compiled-$1.json"
}
if python3 -c 'import torch' 2>/dev/null; then
  python=1
  [[ -d .whl ]] && python3 -m pip install -q --no-index --no-deps --no-compile --target "$site" .whl/*.whl
  export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
  step torch-eager 100 python3 tools/bench/torch_models.py eager sd15-512 sd15-1024 sdxl-1024 "${torch[@]}" \
    --json "$work/torch-eager.json"
  compiled sd15-512 150
fi
# Quantized weights: with int8 where it is expected to be faster, and all decoded.
step models-quantized 60 "${measure[@]}" unet --weights q8_0 --check --json "$work/models-quantized.json"
step models-decoded 30 env NODE_DIFFUSION_CUDA_INT8=0 "${measure[@]}" unet --weights q8_0 --json "$work/models-decoded.json"
# Hopper's kernels: their trial; the same models with what it chose; and with what the model of the time chooses without it.
if [[ $architecture == 90a ]]; then
  step trial 30 "${measure[@]}" trial --json "$work/trial.json"
  step models-warpgroups 60 "${measure[@]}" trial unet vae --check --json "$work/models-warpgroups.json"
  step models-warpgroups-forced 40 env NODE_DIFFUSION_CUDA_WGMMA=1 "${measure[@]}" unet --check \
    --json "$work/models-warpgroups-forced.json"
fi
# Without memory and graphs that are kept from one picture to the next.
step pictures-kept-nothing 40 env NODE_DIFFUSION_CUDA_KEEP=0 "${measure[@]}" trial pictures --size 512 \
  --json "$work/pictures-kept-nothing.json"
compiled sdxl-1024 180
# From every tile's times, `node tools/bench/fit-tiles.mjs device-check.json` makes the constants of the planner's model.
step speed 90 env NODE_DIFFUSION_CUDA_WGMMA=1 "${measure[@]}" kernels --json "$work/kernels.json"
compiled sd15-1024 110
if [[ $device == cuda ]] && command -v compute-sanitizer >/dev/null; then
  for kind in 'cuda/product 2x5x7' 'cuda/attention 2 of 3' 'cuda/group norm 2x77'; do
    step "racecheck-$(tr -dc a-z <<<"$kind")" 30 compute-sanitizer --tool racecheck --error-exitcode 9 "${tests[@]}" "$kind"
  done
fi
step models-again 40 "${measure[@]}" unet --json "$work/models-again.json"
rm -rf "$site" "$work"
echo "== all: $SECONDS s"
