"""The files of deploy/ as their own tools see them, and the commands of its README."""

from __future__ import annotations

import ast
import re
import subprocess
from configparser import ConfigParser
from pathlib import Path

import yaml
from deploy_files import DEPLOY, README, TOOLS, complaints, documents

from orchestrator.config import load
from trainers.lm.options import BUILT_IN_CORPORA

(COMPOSE,) = documents("compose.yaml")
SERVICES = COMPOSE["services"]


def compose_complaints(path: Path) -> str:
    return complaints(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)


def test_the_dockerfile_passes_hadolint() -> None:
    assert complaints(TOOLS / "hadolint", DEPLOY / "Dockerfile") == ""


def test_hadolint_would_complain(tmp_path: Path) -> None:
    broken = tmp_path / "Dockerfile"
    broken.write_text("FROM python\nRUN cd /tmp && pip install torch\n")
    assert "DL3006" in complaints(TOOLS / "hadolint", broken)


def test_the_compose_file_fits_its_schema() -> None:
    assert compose_complaints(DEPLOY / "compose.yaml") == ""


def test_the_schema_would_complain(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text("services: {worker: {imagine: scalesweep}}")
    assert "imagine" in compose_complaints(broken)


def test_compose_publishes_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:5000:5000"]


def test_compose_starts_nothing_without_the_secrets_that_the_readme_makes() -> None:
    used = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))
    optional = set(re.findall(r"\$\{(\w+):-", (DEPLOY / "compose.yaml").read_text()))
    (made,) = re.findall(r"^for name in (.+); do$", README, flags=re.MULTILINE)
    assert used == set(made.split())
    assert optional == {"PYTORCH"}


def test_compose_holds_no_secret_itself() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SECRET", variable):
                assert ":?" in value, (name, variable)


def test_the_mlflow_server_asks_for_a_password_that_no_file_holds() -> None:
    assert "--app-name=basic-auth" in SERVICES["mlflow"]["command"]
    users = ConfigParser()
    users.read(DEPLOY / "mlflow-auth.ini")
    assert "admin_password" not in users["mlflow"]
    assert users["mlflow"]["database_uri"].startswith("sqlite:////users/")
    assert "users:/users" in SERVICES["mlflow"]["volumes"]
    head, server = SERVICES["head"]["environment"], SERVICES["mlflow"]["environment"]
    assert head["MLFLOW_TRACKING_USERNAME"] == users["mlflow"]["admin_username"]
    assert head["MLFLOW_TRACKING_PASSWORD"] == server["MLFLOW_AUTH_ADMIN_PASSWORD"]


def test_the_buckets_are_made_where_mlflow_and_the_sweeps_write() -> None:
    server, script = SERVICES["mlflow"], SERVICES["buckets"]["command"][-1]
    written = {option.partition("s3://")[2] for option in server["command"] if "s3://" in option}
    written |= set(re.findall(r"storage=s3://(\w+)/", README))
    (made,) = re.findall(r"for name in (\(.+\)):", script)
    assert set(ast.literal_eval(made)) == written == {"mlflow", "sweeps"}
    compile(script, "buckets", "exec")


def test_whoever_writes_to_the_s3_store_knows_its_address_and_its_user() -> None:
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
    clients = [SERVICES[name]["environment"] for name in ("buckets", "mlflow", "head", "worker")]
    assert len({tuple(client[key] for key in keys) for client in clients}) == 1
    assert SERVICES["mlflow"]["environment"]["MLFLOW_S3_ENDPOINT_URL"] == clients[0]["AWS_ENDPOINT_URL"]
    assert all(clients[0][key] == SERVICES["s3"]["environment"][key] for key in keys[:2])


def test_the_studies_have_a_database_beside_mlflows() -> None:
    server, script = SERVICES["postgres"], COMPOSE["configs"]["studies.sql"]["content"]
    assert server["configs"] == [{"source": "studies.sql", "target": "/docker-entrypoint-initdb.d/studies.sql"}]
    (made,) = re.findall(r"^CREATE DATABASE (\w+);$", script)
    user, taken = (server["environment"][key] for key in ("POSTGRES_USER", "POSTGRES_DB"))
    assert f"studies.uri=postgresql+psycopg://{user}@postgres/{made}" in README
    assert made != taken
    store = SERVICES["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    assert store.startswith(f"postgresql+psycopg://{user}:") and store.endswith(f"@postgres/{taken}")
    assert SERVICES["head"]["environment"]["PGPASSWORD"] == server["environment"]["POSTGRES_PASSWORD"]
    assert "PGPASSWORD" not in SERVICES["worker"]["environment"]


def test_every_node_is_given_what_any_store_and_corpus_takes() -> None:
    for name in ("Dockerfile", "ray-up/aws.yaml", "ray-up/on-premises.yaml", "README.md"):
        assert "'.[cluster,hub,postgres,s3]'" in (DEPLOY / name).read_text(), name


def test_compose_asks_postgres_as_its_clients_do() -> None:
    words = SERVICES["postgres"]["healthcheck"]["test"]
    assert words[words.index("--host") + 1] == "127.0.0.1"  # while it makes the databases it listens on a socket alone


def test_nodes_of_compose_keep_their_object_store_within_shared_memory() -> None:
    for name in ("head", "worker"):
        (given,) = [word for word in SERVICES[name]["command"] if word.startswith("--object-store-memory=")]
        assert SERVICES[name]["shm_size"] == "1gb"
        assert int(given.partition("=")[2]) < 1e9


def test_what_the_readme_leaves_in_the_repository_is_ignored_and_stays_off_the_nodes() -> None:
    made = set(re.findall(r"(?:> |\$PWD/)((?!/)[\w./-]+)", README)) | set(
        re.findall(r"--(?:dir|pgdata) ?=?([a-z]\w*)", README)
    )
    assert {"users.db", "artifacts", "mlflow.log", "my-cluster.yaml", "mine", "deploy/.env"} <= made
    ignored = {line.rstrip("/") for line in (DEPLOY.parent / ".gitignore").read_text().splitlines()}
    (aws,), (own,) = documents("ray-up/aws.yaml"), documents("ray-up/on-premises.yaml")
    for name in made:
        patterns = {f"/{name}", Path(name).name}
        assert patterns & ignored, name
        assert patterns & set(aws["rsync_exclude"]) & set(own["rsync_exclude"]), name


def test_the_mlflow_server_by_hand_answers_to_the_address_that_the_sweep_file_names() -> None:
    (hosts,) = re.findall(r"--host=FIRST --port=5000 --allowed-hosts=(\S+)", README)
    (uri,) = re.findall(r'tracking: \{uri: "http://(FIRST:\d+)"', README)
    assert uri in hosts.split(",")


def test_the_secrets_of_compose_are_their_owners_alone(tmp_path: Path) -> None:
    (block,) = [block for block in bash_blocks() if "done > deploy/.env" in block]
    (tmp_path / "deploy").mkdir()
    lines = block.partition("docker compose")[0]
    subprocess.run(["bash", "-e", "-c", f"umask 022\n{lines}"], cwd=tmp_path, check=True, timeout=20)
    written = tmp_path / "deploy" / ".env"
    assert written.stat().st_mode & 0o077 == 0
    assert len(re.findall(r"^\w+=[0-9a-f]{64}$", written.read_text(), flags=re.MULTILINE)) == 5


def test_prepared_tokens_lie_where_every_node_finds_them() -> None:
    (by_hand,) = [block for block in bash_blocks() if "cat > /shared/secrets.sh" in block]
    assert "export XDG_CACHE_HOME=/shared/" in by_hand  # the file that every shell of that section reads
    assert "ENV XDG_CACHE_HOME=/sweeps/" in (DEPLOY / "Dockerfile").read_text()


def test_addresses_in_compose_are_services() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    hosts = set(re.findall(r"(?:http://|@|--address=)([a-z0-9]+)", text)) - {"localhost"}
    assert hosts == {"s3", "postgres", "head"}
    assert "--allowed-hosts=mlflow:5000" in text


def test_images_are_pinned() -> None:
    for service in SERVICES.values():
        assert re.search(r":\d+\.\d+", service["image"])


def test_the_head_takes_no_work() -> None:
    assert "--num-cpus=0" in SERVICES["head"]["command"]


def test_compose_says_how_ray_authenticates() -> None:
    for name in ("head", "worker"):
        assert SERVICES[name]["environment"]["RAY_AUTH_MODE"] == "token"


def test_compose_shares_the_run_folders_with_every_node() -> None:
    for name in ("head", "worker"):
        assert "sweeps:/sweeps" in SERVICES[name]["volumes"]


def test_everything_that_the_image_copies_is_let_in() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split() if line.startswith("!")}
    names = {name for line in copied for name in line.split()}
    assert names == allowed
    missing = sorted(name for name in names if not (DEPLOY.parent / name).exists())
    assert missing == []


def test_the_readme_names_every_file() -> None:
    table = README.partition("What was run")[0]
    named = set(re.findall(r"^\| `([^`]+)`", table, flags=re.MULTILINE))
    assert named == {path.name for path in DEPLOY.iterdir()} - {"README.md", ".env", "gpus.yaml"}


def test_the_gpu_file_of_the_readme_fits_the_schema(tmp_path: Path) -> None:
    (block,) = [block for block in yaml_blocks() if "gpus.yaml" in block]
    gpus = tmp_path / "gpus.yaml"
    gpus.write_text(block)
    assert compose_complaints(gpus) == ""
    assert set(yaml.safe_load(block)["services"]) <= set(SERVICES)


def test_the_sweep_file_of_the_readme_is_one_for_several_nodes(tmp_path: Path) -> None:
    (block,) = [block for block in yaml_blocks() if "mine.yaml" in block]
    path = tmp_path / "mine.yaml"
    path.write_text(block)
    sweep = load(str(path))
    assert sweep.plan().trials > 0
    assert (sweep.cluster.address, sweep.storage) == ("auto", "/shared/mine-storage")


def test_the_overrides_of_the_readme_are_keys_of_a_sweep_that_several_nodes_can_run() -> None:
    commands = re.findall(r"scalesweep run (\w+) ((?:[^\n]*\\\n)*[^\n]*)", README)
    assert sorted({name for name, _ in commands}) == ["evening", "laptop"]
    for name, rest in commands:
        sweep = load(name, re.findall(r"--set ([^\s']+)", rest))
        assert sweep.cluster.address == "auto"
        assert sweep.storage is not None
        assert sweep.cluster.wait_minutes > 0  # nobody is told to wait for the workers first
        assert sweep.trainer_ref().options["corpus"] in BUILT_IN_CORPORA  # which a small head prepares in seconds


def test_the_storages_of_the_readme_are_asked_where_they_are_written() -> None:
    given = {path.rstrip("'") for path in re.findall(r"(?:storage=|^storage: )(\S+)", README, flags=re.MULTILINE)}
    asked = {path.rstrip("'") for path in re.findall(r"scalesweep (?:status|pause|stop) (\S+)", README)}
    assert len(asked) > 2
    assert asked - {"/shared/mine"} <= given  # that one is Slurm's run folder


def bash_blocks() -> list[str]:
    return re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)


def yaml_blocks() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
