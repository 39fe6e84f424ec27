"""The whole configuration: files' texts in, values or every problem out. Touches no file itself."""

import hashlib
from collections.abc import Mapping

from truecl.config import cluster as cluster_file
from truecl.config.apps import app_name, read_app
from truecl.config.owners import check_shared
from truecl.config.problem import Problem, sorted_once
from truecl.config.scalars import Unfit
from truecl.config.tree import parse
from truecl.config.typed import Source, suggestion
from truecl.model.config import AppConfig, ClusterConfig, Configuration, Replication

MAX_FILES = 1024


def read(files: Mapping[str, str | bytes]) -> tuple[Configuration | None, tuple[Problem, ...]]:
    """Names within the configuration directory ('cluster.yaml', 'apps/web.yaml') and their texts to a configuration.

    The configuration is None exactly when there are problems. Never raises, whatever the texts are.
    """
    cluster_source = Source(cluster_file.FILE)
    cluster = _cluster(cluster_source, files)
    sources = [cluster_source]
    apps: dict[str, tuple[Source, AppConfig | None]] = {}
    for file in sorted(files):
        if file != cluster_file.FILE:
            source = Source(file)
            sources.append(source)
            _app(source, files[file], apps)
    if len(files) > MAX_FILES:
        cluster_source.note(0, f"there are {len(files)} files", f"expected at most {MAX_FILES}")
    _check_nodes(cluster_source, cluster, [source for source, _ in apps.values()])
    _check_links(cluster, [source for source, _ in apps.values()])
    check_shared(cluster_source, cluster, apps)
    problems = sorted_once(problem for source in sources for problem in source.problems)
    if problems or cluster is None:
        return None, problems
    found = tuple(app for _, app in apps.values() if app is not None)
    return Configuration(cluster=cluster, apps=found, digest=digest(files)), ()


def digest(files: Mapping[str, str | bytes]) -> str:
    """SHA-256 over names and texts, hexadecimal. Lengths go first, so that nothing can slide from one into another."""
    total = hashlib.sha256()
    for name in sorted(files):
        content = files[name]
        raw = content if isinstance(content, bytes) else content.encode(errors="surrogatepass")
        for part in (name.encode(errors="surrogatepass"), raw):
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()


def _cluster(source: Source, files: Mapping[str, str | bytes]) -> ClusterConfig | None:
    if cluster_file.FILE not in files:
        source.note(0, "the file is missing", "`lha_init` makes one; conf/cluster.yaml is a sample")
        return None
    tree, problems = parse(source.file, files[source.file])
    source.problems += problems
    return cluster_file.read_cluster(source, tree) if tree is not None else None


def _app(source: Source, content: str | bytes, apps: dict[str, tuple[Source, AppConfig | None]]) -> None:
    try:
        name = app_name(source.file)
    except Unfit as unfit:
        source.note(0, unfit.what or "the file's name does not fit an application", unfit.expected)
        return
    tree, problems = parse(source.file, content)
    source.problems += problems
    if tree is not None:
        apps[name] = (source, read_app(source, tree, name))


def _check_nodes(cluster_source: Source, cluster: ClusterConfig | None, sources: list[Source]) -> None:
    """Applications name nodes of the cluster that may run them."""
    known = cluster_file.node_names(cluster_source)
    witnesses = [node.name for node in cluster.nodes if node.witness] if cluster is not None else []
    for source in sources:
        for path, name in source.words.items():
            if path[:1] != ("nodes",) or not known:
                continue
            if name not in known:
                source.note(source.line(*path), f"unknown node {name!r}", cluster_file.unknown_node(name, known))
            elif name in witnesses:
                source.note(source.line(*path), f"node {name!r} is a witness", "expected nodes that run applications")


def _check_links(cluster: ClusterConfig | None, sources: list[Source]) -> None:
    """Replication names a link of the cluster."""
    known = [link.name for link in cluster.links] if cluster is not None else []
    for source in sources:
        for path, replication in source.found(Replication):
            if replication.link and known and replication.link not in known:
                what = f"unknown link {replication.link!r}"
                source.note(source.line(*path, "link"), what, suggestion(replication.link, known))
