"""Joins what the steps of tools/device-check.sh have written into one JSON.

python3 tools/bench/device_report.py FOLDER FILE
"""

import json
import pathlib
import sys

folder, file = map(pathlib.Path, sys.argv[1:])
fields = [line.split() for line in (folder / "steps").read_text().splitlines()]
result = {"steps": [dict(zip(("name", "status", "seconds"), line)) for line in fields]}
if (folder / "card").exists():
    result["card"] = (folder / "card").read_text().strip()
for path in sorted(folder.glob("*.json")):
    try:
        result[path.stem] = json.loads(path.read_text())
    except ValueError:
        print(f"{path.name} is cut off")
        result.setdefault("unreadable", []).append(path.name)
for log in (folder / "instructions.log", folder / "kernels.log"):
    if log.exists():
        lines = [line for line in log.read_text().splitlines() if "passed" in line or line.startswith("FAIL")]
        result.setdefault("tests", []).extend(lines)
file.write_text(json.dumps(result, indent=1))
