#!/bin/bash
# The check for an NVIDIA GPU, in at most 8 minutes on one H100 or H200: builds, compares every imitated instruction, kernel
# and model with the CPU, times kernels and whole steps, and PyTorch beside them. Results: $OUT/device-check.json, and a log
# for each step. What matters most comes first; each step has its own limit, and a failing one does not stop the others.
#
# Needs nvcc 12 or newer, g++, cmake, ninja; for the comparison python3 with torch, and diffusers from wheels in .whl/
# (python3 -m pip download --no-deps -d .whl diffusers importlib_metadata). Nothing is downloaded.
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
export PYTHONUNBUFFERED=1
# Limits are those of a machine with a GPU and many cores.
limit_factor=1
[[ $device == emulated ]] && limit_factor=6
: >"$OUT/steps"

# step NAME SECONDS COMMAND…: runs it under a limit, its output to a log of its own; says how it ended.
step() {
  local name=$1 limit=$2 begin=$SECONDS status=0
  shift 2
  [[ -n ${SKIP:-} && $name =~ $SKIP ]] && return 0
  timeout -k 5 $((limit * limit_factor)) "$@" >"$OUT/$name.log" 2>&1 || status=$?
  echo "$name $status $((SECONDS - begin))" >>"$OUT/steps"
  echo "== $name: status $status, $((SECONDS - begin)) s"
  grep -E "passed|FAIL|fault|ERROR|it/s|models |Hopper's|Overlap" "$OUT/$name.log" | tail -n "${LINES_SHOWN:-12}"
  return $status
}

architecture=90
if [[ $device == cuda ]]; then
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,memory.total --format=csv,noheader | tee "$OUT/card"
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
  tail -n 30 "$OUT/configure.log" "$OUT/build.log"
  exit 1
fi
tests=("$build/engine-tests" --device "$device")
# Does the emulator imitate each instruction rightly? Bit by bit.
step instructions 40 "${tests[@]}" cuda/instruction
step kernels 90 "${tests[@]}" cuda/
step models 90 "$build/cuda-bench" unet vae --check "${bench[@]}" --json "$OUT/models.json"
# The package itself, where the machine has Node and what it needs was carried: dist, build/Release with the addon and its
# kernels (npm run build, npm run build:cuda), and the runtime dependencies.
if command -v node >/dev/null && [[ -d dist && -e build/Release/node_diffusion.node && -d node_modules ]]; then
  api=(node tools/device-api.mjs --json "$OUT/api.json")
  if [[ $device == emulated ]]; then
    export NODE_DIFFUSION_CUDA_DRIVER=$PWD/build/Release/libcuda-emulated-driver.so
    # It finds its kernels by name.
    node -e 'process.stdout.write(require("zlib").brotliCompressSync("[[\"sm_80.cubin\",7]]\nkernels"))' >"$site/kernels.br"
    export NODE_DIFFUSION_CUDA_KERNELS=$site
    api+=(--steps 1)
  fi
  step api 60 "${api[@]}"
fi
python=0
if python3 -c 'import torch' 2>/dev/null; then
  python=1
  [[ -d .whl ]] && python3 -m pip install -q --no-index --no-deps --no-compile --target "$site" .whl/*.whl
  export PYTHONPATH=$site
  step torch-eager 60 python3 tools/bench/torch_unet.py eager --json "$OUT/torch-eager.json" "${torch[@]}"
fi
# Quantized weights: their memory; with int8 where it is expected to be faster, and all decoded.
step models-quantized 60 "$build/cuda-bench" unet --weights q8_0 --check "${bench[@]}" --json "$OUT/models-quantized.json"
step models-decoded 30 env NODE_DIFFUSION_CUDA_INT8=0 "$build/cuda-bench" unet --weights q8_0 "${bench[@]}" \
  --json "$OUT/models-decoded.json"
# Hopper's kernels: their trial, which loading a model makes; the same models with what it chose; and with what the model of
# the time chooses without it.
if [[ $architecture == 90a ]]; then
  step trial 30 "$build/cuda-bench" trial "${bench[@]}" --json "$OUT/trial.json"
  step models-warpgroups 60 "$build/cuda-bench" trial unet vae --check "${bench[@]}" --json "$OUT/models-warpgroups.json"
  step models-warpgroups-forced 40 env NODE_DIFFUSION_CUDA_WGMMA=1 "$build/cuda-bench" unet --check "${bench[@]}" \
    --json "$OUT/models-warpgroups-forced.json"
fi
# From every tile's times, `node tools/bench/fit-tiles.mjs device-check.json` makes the constants of the planner's model.
step speed 90 env NODE_DIFFUSION_CUDA_WGMMA=1 "$build/cuda-bench" kernels "${bench[@]}" --json "$OUT/kernels.json"
if [[ $device == cuda ]] && command -v compute-sanitizer >/dev/null; then
  for kind in 'cuda/product 2x5x7' 'cuda/attention 2 of 3' 'cuda/group norm 2x77'; do
    step "racecheck-$(tr -dc a-z <<<"$kind")" 30 compute-sanitizer --tool racecheck --error-exitcode 9 "${tests[@]}" "$kind"
  done
fi
((python)) && step torch-compiled 170 python3 tools/bench/torch_unet.py compiled --json "$OUT/torch-compiled.json" "${torch[@]}"
step models-again 40 "$build/cuda-bench" unet "${bench[@]}" --json "$OUT/models-again.json"

python3 - "$OUT" <<'PYTHON'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
result = {'steps': [dict(zip(('name', 'status', 'seconds'), line.split())) for line in (out / 'steps').read_text().splitlines()]}
if (out / 'card').exists():
    result['card'] = (out / 'card').read_text().strip()
for part in ('api', 'models', 'models-again', 'trial', 'models-warpgroups', 'models-warpgroups-forced', 'models-quantized', 'models-decoded', 'kernels', 'torch-eager', 'torch-compiled'):
    path = out / f'{part}.json'
    if path.exists():
        result[part] = json.loads(path.read_text())
    log = out / f'{part}.log'
    if log.exists() and part == 'kernels':
        result['tests'] = [line for line in log.read_text().splitlines() if 'passed' in line or line.startswith('FAIL')]
(out / 'device-check.json').write_text(json.dumps(result, indent=1))
PYTHON
# What comes back are few files.
tar -czf "$OUT/logs.tgz" -C "$OUT" $(cd "$OUT" && ls | grep -E '\.log$')
rm -f "$OUT"/*.log "$OUT"/steps "$OUT"/card
echo "== all: $SECONDS s"
