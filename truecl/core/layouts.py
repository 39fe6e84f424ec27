"""What a node's resource file is made of: the configuration says what lies beneath and which link carries it, the
ledger which numbers were assigned."""

from truecl.model.config import AppConfig, ClusterConfig, Configuration, DrbdStorage
from truecl.model.ids import AppName, LinkName, NodeName
from truecl.model.ledger import Ledger
from truecl.model.mirror import Mirror
from truecl.model.replica import Layout, LayoutHost, LayoutVolume
from truecl.model.step import replicated


def layout_of(configuration: Configuration, ledger: Ledger, app: AppName) -> Layout | None:
    """None where the configuration's replicated volumes are not those that were built, or a node has no address."""
    config, mirror = configuration.app(app), ledger.mirrors.get(app)
    return layout(configuration.cluster, config, mirror) if config is not None and mirror is not None else None


def layout(cluster: ClusterConfig, config: AppConfig, mirror: Mirror) -> Layout | None:
    """The same, of a mirror that need not be in the ledger yet."""
    hosts = tuple(LayoutHost(node, address(cluster, config, node)) for node in mirror.nodes)
    storage = {volume.name: volume.storage for volume in config.volumes}
    volumes = tuple(
        LayoutVolume(each.name, each.number, each.minor, beneath.on)
        for each in mirror.volumes
        if isinstance(beneath := storage.get(each.name), DrbdStorage)
    )
    as_built = {each.name for each in volumes} == {each.name for each in mirror.volumes} == {*replicated(config)}
    if not volumes or not as_built or not all(host.address for host in hosts):
        return None
    return Layout(config.name, mirror.port, hosts, volumes, config.replication.rate)


def address(cluster: ClusterConfig, config: AppConfig, node: NodeName) -> str:
    """Of the link that carries the replication; '' where the node is gone, or has none."""
    link = config.replication.link or next((each.name for each in cluster.links), LinkName(""))
    found = next((each for each in cluster.nodes if each.name == node), None)
    return found.addresses.get(link, "") if found is not None else ""
