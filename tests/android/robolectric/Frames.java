import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipOutputStream;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.ClassVisitor;
import org.objectweb.asm.ClassWriter;
import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;

/**
 * Frames IN.jar OUT.jar LIBRARY.jar...: makes classes that were translated back from a dex file verifiable. They come as
 * Java 5 classes without stack maps, and do not say which static calls go to interfaces.
 */
public class Frames {
    private final List<ZipFile> jars = new ArrayList<>();
    private final Map<String, ClassReader> found = new HashMap<>();

    /** The class of that name by its bytes; null for one of the JDK or an unknown one. */
    private ClassReader find(String name) {
        return found.computeIfAbsent(name, key -> {
            try {
                for (ZipFile jar : jars) {
                    ZipEntry entry = jar.getEntry(key + ".class");
                    if (entry != null) return new ClassReader(jar.getInputStream(entry).readAllBytes());
                }
                try (InputStream in = ClassLoader.getPlatformClassLoader().getResourceAsStream(key + ".class")) {
                    return in == null ? null : new ClassReader(in.readAllBytes());
                }
            } catch (IOException error) {
                throw new IllegalStateException(key, error);
            }
        });
    }

    private boolean isInterface(String name) {
        ClassReader reader = find(name);
        return reader != null && (reader.getAccess() & Opcodes.ACC_INTERFACE) != 0;
    }

    private List<String> ancestors(String name) {
        List<String> all = new ArrayList<>();
        for (String at = name; at != null; at = find(at) == null ? null : find(at).getSuperName()) all.add(at);
        return all;
    }

    private byte[] convert(byte[] bytes) {
        ClassWriter writer = new ClassWriter(ClassWriter.COMPUTE_FRAMES) {
            @Override
            protected String getCommonSuperClass(String a, String b) {
                if (isInterface(a) || isInterface(b)) return "java/lang/Object";
                List<String> of = ancestors(a);
                for (String candidate : ancestors(b)) if (of.contains(candidate)) return candidate;
                return "java/lang/Object";
            }
        };
        new ClassReader(bytes).accept(new ClassVisitor(Opcodes.ASM9, writer) {
            @Override
            public void visit(int version, int access, String name, String signature, String parent, String[] interfaces) {
                super.visit(Opcodes.V1_8, access, name, signature, parent, interfaces);
            }

            @Override
            public MethodVisitor visitMethod(int access, String name, String descriptor, String signature, String[] thrown) {
                return new MethodVisitor(Opcodes.ASM9, super.visitMethod(access, name, descriptor, signature, thrown)) {
                    @Override
                    public void visitMethodInsn(int code, String owner, String method, String type, boolean ofInterface) {
                        boolean ask = (code == Opcodes.INVOKESTATIC || code == Opcodes.INVOKESPECIAL) && !owner.startsWith("[");
                        super.visitMethodInsn(code, owner, method, type, ask ? isInterface(owner) : ofInterface);
                    }
                };
            }
        }, ClassReader.SKIP_FRAMES);
        return writer.toByteArray();
    }

    public static void main(String[] arguments) throws IOException {
        Frames frames = new Frames();
        for (int i = 0; i < arguments.length; ++i) if (i != 1) frames.jars.add(new ZipFile(arguments[i]));
        int count = 0;
        try (OutputStream file = Files.newOutputStream(Path.of(arguments[1])); ZipOutputStream out = new ZipOutputStream(file)) {
            for (ZipEntry entry : java.util.Collections.list(frames.jars.get(0).entries())) {
                if (!entry.getName().endsWith(".class")) continue;
                out.putNextEntry(new ZipEntry(entry.getName()));
                out.write(frames.convert(frames.jars.get(0).getInputStream(entry).readAllBytes()));
                ++count;
            }
        }
        System.out.println(count + " classes");
    }
}
