import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandler;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.SecureRandom;
import java.security.Signature;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.HexFormat;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Signs the requests of java.net.http for a Countersign gateway. Copy this file into your project (Java 17 or later).
 *
 * <pre>{@code
 * var countersign = new Countersign("web-1", Files.readString(Path.of("key.pem")));
 * var answer = countersign.send(HttpClient.newHttpClient(), request, BodyHandlers.ofString());
 * }</pre>
 *
 * Every send signs anew. Threads may share an instance.
 */
public final class Countersign {
    private final String machineId;
    private final PrivateKey key;
    private final boolean signQuery;

    public Countersign(String machineId, String pem) {
        this(machineId, pem, true);
    }

    /** {@code pem} is PKCS#8. Pass {@code signQuery} false if the gateway's route has {@code query: strip}. */
    public Countersign(String machineId, String pem, boolean signQuery) {
        this.machineId = machineId;
        this.signQuery = signQuery;
        try {
            byte[] der = Base64.getMimeDecoder().decode(pem.replaceAll("-----(BEGIN|END) PRIVATE KEY-----", ""));
            key = KeyFactory.getInstance("Ed25519").generatePrivate(new PKCS8EncodedKeySpec(der));
        } catch (GeneralSecurityException | IllegalArgumentException error) {
            throw new IllegalArgumentException(
                    "the key is not an Ed25519 key in PKCS#8 PEM. Make one: countersign keygen --out key.pem");
        }
    }

    public <T> HttpResponse<T> send(HttpClient client, HttpRequest request, BodyHandler<T> handler)
            throws IOException, InterruptedException {
        return client.send(signed(client, request), handler);
    }

    public <T> CompletableFuture<HttpResponse<T>> sendAsync(
            HttpClient client, HttpRequest request, BodyHandler<T> handler) {
        return client.sendAsync(signed(client, request), handler);
    }

    private HttpRequest signed(HttpClient client, HttpRequest request) {
        if (client.followRedirects() != HttpClient.Redirect.NEVER) {
            throw new IllegalArgumentException("the client follows redirects, and would take the signature along: "
                    + "a signature is good for one request to one server. Build it with Redirect.NEVER, the default");
        }
        // Of an empty query HTTP/1.1 sends nothing, HTTP/2 the question mark.
        URI uri = "".equals(request.uri().getRawQuery())
                ? URI.create(request.uri().toString().replaceFirst("\\?(#.*)?$", "")) : request.uri();
        if (!uri.toString().equals(uri.toASCIIString())) {
            throw new IllegalArgumentException("the URI has characters that must be percent-encoded: " + uri.getPath());
        }
        byte[] body = request.bodyPublisher().map(Countersign::read).orElse(new byte[0]);
        String query = signQuery && uri.getRawQuery() != null ? "?" + uri.getRawQuery() : "";
        String path = (uri.getRawPath().isEmpty() ? "/" : uri.getRawPath()) + query;
        String timestamp = Long.toString(System.currentTimeMillis() / 1000), nonce = nextNonce();
        var signed = HttpRequest.newBuilder(request, (name, value) -> true).uri(uri)
                .setHeader("X-Machine-Id", machineId)
                .setHeader("X-Timestamp", timestamp)
                .setHeader("X-Nonce", nonce)
                .setHeader("X-Signature", sign(request.method(), path, timestamp, nonce, body));
        request.bodyPublisher().ifPresent(given -> signed.method(request.method(), BodyPublishers.ofByteArray(body)));
        return signed.build();
    }

    /** X-Signature for exactly these parts. */
    public String sign(String method, String path, String timestamp, String nonce, byte[] body) {
        try {
            String hash = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body));
            Signature signature = Signature.getInstance("Ed25519");
            signature.initSign(key);
            signature.update(String.join(":", method, path, timestamp, nonce, hash).getBytes(StandardCharsets.UTF_8));
            return Base64.getEncoder().encodeToString(signature.sign());
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException("cannot sign", error);
        }
    }

    /** The body that a publisher publishes; publishers of bytes, strings and files know its length, streams do not. */
    private static byte[] read(HttpRequest.BodyPublisher publisher) {
        if (publisher.contentLength() < 0) {
            throw new IllegalArgumentException("cannot sign a streamed body: its hash is part of the signature. "
                    + "Use BodyPublishers.ofByteArray, ofString or ofFile");
        }
        var body = new CompletableFuture<byte[]>().orTimeout(1, TimeUnit.MINUTES);
        publisher.subscribe(new Flow.Subscriber<>() {
            private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

            public void onSubscribe(Flow.Subscription subscription) { subscription.request(Long.MAX_VALUE); }
            public void onNext(ByteBuffer part) {
                byte[] copy = new byte[part.remaining()];
                part.get(copy);
                bytes.writeBytes(copy);
            }
            public void onError(Throwable error) { body.completeExceptionally(error); }
            public void onComplete() { body.complete(bytes.toByteArray()); }
        });
        return body.join();
    }

    private static final SecureRandom RANDOM = new SecureRandom();
    private static final String INSTANCE = random(8);
    private static final AtomicLong COUNT = new AtomicLong();

    /**
     * {@code CS1}, a random name of this process, a counter, and 96 random bits, each as base64url. The gateway tells
     * a process that goes on from a copied key that is used beside it.
     */
    private static String nextNonce() {
        byte[] counter = ByteBuffer.allocate(8).putLong(COUNT.getAndIncrement() << 16).array(); // its first 48 bits
        return "CS1" + INSTANCE + base64url(counter).substring(0, 8) + random(12);
    }

    private static String random(int size) {
        byte[] bytes = new byte[size];
        RANDOM.nextBytes(bytes);
        return base64url(bytes);
    }

    private static String base64url(byte[] bytes) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    }
}
