import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.retry.RetryForever;
import org.apache.zookeeper.CreateMode;

/** Registers an instance from Java: java Register.java ZOOKEEPER SERVICE HOST PORT DRAIN-SECONDS. Needs Curator's recipes. */
public class Register {
    public static void main(String[] args) throws Exception {
        String id = args[2].replace(':', '-') + "-" + args[3], path = "/causeway/v1/services/" + args[1] + "/instances/" + id;
        String json = "{\"v\":1,\"id\":\"" + id + "\",\"status\":\"%s\",\"endpoints\":[{\"protocol\":\"grpc\",\"host\":\"" + args[2] + "\",\"port\":" + args[3] + "}]}";
        var zk = CuratorFrameworkFactory.newClient(args[0], 6000, 3000, new RetryForever(1000));
        var node = new PersistentNode(zk, CreateMode.EPHEMERAL, false, path, json.formatted("up").getBytes());
        Runtime.getRuntime().addShutdownHook(new Thread(() -> { // on SIGTERM
            try (zk; node) {
                node.setData(json.formatted("draining").getBytes());
                Thread.sleep((long) (1000 * Double.parseDouble(args[4])));
            } catch (Exception e) { e.printStackTrace(); }
        }));
        zk.start();
        node.start(); // makes the node again when its session, or that of a ghost in its place, has expired
        Thread.currentThread().join();
    }
}
