"""The peers, out of their source packages on PyPI into a cache folder, built for this very machine.

Ready wheels are built for old processors (ik_llama.cpp's has no AVX-512 and is half as fast here), so the source packages
are what is compared. pip fetches them; nothing is installed into any Python."""
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time

# targets are what the measurements need and no more
RECIPES = {
    "llama.cpp": {
        "package": "llama-cpp-python", "version": "0.3.36", "source": "vendor/llama.cpp",
        "options": ["-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF"],
        "targets": ["llama-bench", "llama-batched-bench", "llama-completion", "llama-server"],
    },
    "ik_llama.cpp": {
        "package": "ik-llama-cpp-python", "version": "0.1.5", "source": "vendor/ik_llama.cpp",
        # without ALL_QUANTS its attention has F16, BF16 and Q8_0 caches, and builds in a quarter of the time
        "options": ["-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_CURL=OFF",
                    "-DGGML_IQK_FA_ALL_QUANTS=OFF", "-DCMAKE_C_FLAGS=-march=native", "-DCMAKE_CXX_FLAGS=-march=native"],
        "targets": ["llama-bench", "llama-batched-bench", "llama-cli"],
        # the package leaves out the script that makes this file
        "files": {"common/build-info.cpp":
                  'int LLAMA_BUILD_NUMBER = 0;\nchar const *LLAMA_COMMIT = "8337e4cd";\n'
                  'char const *LLAMA_COMPILER = "native";\nchar const *LLAMA_BUILD_TARGET = "native";\n'},
    },
}
OPTIONS = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=ON"]


class Missing(Exception):
    """One sentence: what is not here and what would help."""


def say(text):
    print("peers: " + text, file=sys.stderr, flush=True)


def cache_folder():
    home = os.environ.get("DROVER_CACHE")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "drover")
    return os.path.join(home, "peers")


def check_tools():
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        raise Missing("the peers come from PyPI and pip is not here: apt-get install python3-pip")
    for tool, package in (("cmake", "cmake"), ("make", "make"), (os.environ.get("CXX", "c++"), "g++")):
        if not shutil.which(tool):
            raise Missing("the peers are built from source and %s is not here: apt-get install %s" % (tool, package))


def run(argv, log, cwd=None):
    """All of its output goes to a log file, whose end is shown if it fails."""
    with open(log, "ab") as f:
        f.write(("$ %s\n" % " ".join(argv)).encode())
        f.flush()
        rc = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT, cwd=cwd).returncode
    if rc:
        with open(log, "rb") as f:
            tail = f.read()[-2000:].decode(errors="replace")
        raise Missing("%s ended with %d; the end of %s:\n%s" % (argv[0], rc, log, tail))


def download(package, version, folder, log, source):
    """The one file that pip fetched."""
    os.makedirs(folder, exist_ok=True)
    run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
         "--no-binary" if source else "--only-binary", ":all:", "-d", folder, "%s==%s" % (package, version)], log)
    stem = package.replace("-", "_")
    found = [f for f in os.listdir(folder) if f.replace("-", "_").startswith(stem + "_" + version)]
    if len(found) != 1:
        raise Missing("pip left %s in %s, not one file of %s" % (found or "nothing", folder, package))
    return os.path.join(folder, found[0])


def _stamp(recipe):
    return {k: recipe[k] for k in ("package", "version", "options", "targets")}


def ready(folder, recipe):
    try:
        with open(os.path.join(folder, "built.json")) as f:
            built = json.load(f)
    except (OSError, ValueError):
        return None
    here = all(os.access(os.path.join(folder, "build", "bin", t), os.X_OK) for t in recipe["targets"])
    return built if here and built.get("recipe") == _stamp(recipe) else None


def install(name, cache, jobs, again=False):
    """The peer's folder of programs and its version, built if it is not there yet."""
    recipe = RECIPES[name]
    folder = os.path.join(cache, name)
    built = None if again else ready(folder, recipe)
    if built:
        say("%s is here: %s" % (name, folder))
        return os.path.join(folder, "build", "bin"), built["version"]
    check_tools()
    say("%s: %s %s from PyPI into %s" % (name, recipe["package"], recipe["version"], folder))
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    log = os.path.join(folder, "log")
    packed = download(recipe["package"], recipe["version"], folder, log, source=True)
    with tarfile.open(packed) as tar:
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    top = os.path.join(folder, os.path.basename(packed)[:-len(".tar.gz")])
    source = os.path.join(top, recipe["source"])
    if not os.path.isdir(source):
        raise Missing("%s has no %s" % (packed, recipe["source"]))
    for path, text in recipe.get("files", {}).items():
        if not os.path.exists(os.path.join(source, path)):
            with open(os.path.join(source, path), "w") as f:
                f.write(text)
    build = os.path.join(folder, "build")
    say("%s: building for this machine with %d jobs, some minutes; %s says how far it is" % (name, jobs, log))
    t = time.time()
    run(["cmake", "-S", source, "-B", build] + OPTIONS + recipe["options"], log)
    run(["cmake", "--build", build, "-j", str(jobs), "--target"] + recipe["targets"], log)
    version = "%s %s" % (recipe["package"], recipe["version"])
    with open(os.path.join(folder, "built.json"), "w") as f:
        json.dump({"recipe": _stamp(recipe), "version": version, "seconds": round(time.time() - t)}, f)
    os.remove(packed)
    say("%s: built in %.0f s" % (name, time.time() - t))
    return os.path.join(build, "bin"), version
