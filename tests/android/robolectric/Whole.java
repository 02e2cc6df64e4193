import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipOutputStream;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.ClassWriter;
import org.objectweb.asm.tree.AbstractInsnNode;
import org.objectweb.asm.tree.ClassNode;
import org.objectweb.asm.tree.FieldInsnNode;
import org.objectweb.asm.tree.FieldNode;
import org.objectweb.asm.tree.MethodInsnNode;
import org.objectweb.asm.tree.MethodNode;
import org.objectweb.asm.tree.TypeInsnNode;

/**
 * Whole SHRUNK.jar LIBRARY.jar OUT.jar: an app's classes with its shrunk part of Kotlin's library, for tests that use more of
 * that. First, whatever the classes of SHRUNK name in kotlin.* must be among them: else a sentence for each, and exit status
 * 1. Then members that shrinking took away are filled in from LIBRARY; what SHRUNK has stays its own.
 */
public class Whole {
    private static Map<String, ClassNode> read(String path) throws IOException {
        Map<String, ClassNode> classes = new LinkedHashMap<>();
        try (ZipFile jar = new ZipFile(path)) {
            for (ZipEntry entry : Collections.list(jar.entries())) {
                if (!entry.getName().endsWith(".class") || entry.getName().startsWith("META-INF")) continue;
                ClassNode node = new ClassNode();
                new ClassReader(jar.getInputStream(entry).readAllBytes()).accept(node, 0);
                classes.put(node.name, node);
            }
        }
        return classes;
    }

    private static boolean has(Map<String, ClassNode> classes, String owner, String name, String type, boolean field) {
        ClassNode node = classes.get(owner);
        if (node == null) return !owner.startsWith("kotlin/");  // of Java or Android, which another test looks at
        if (field) {
            for (FieldNode f : node.fields) if (f.name.equals(name) && f.desc.equals(type)) return true;
        } else {
            for (MethodNode m : node.methods) if (m.name.equals(name) && m.desc.equals(type)) return true;
            if (name.equals("<init>")) return false;
        }
        if ("java/lang/Object".equals(node.superName)) {
            if (!field && ofObject(name)) return true;
        } else if (has(classes, node.superName, name, type, field)) {
            return true;
        }
        for (String parent : node.interfaces) if (has(classes, parent, name, type, field)) return true;
        return false;
    }

    private static boolean ofObject(String name) {
        return java.util.Arrays.stream(Object.class.getDeclaredMethods()).anyMatch(m -> m.getName().equals(name));
    }

    private static String element(String type) {
        String name = type.replaceFirst("^\\[+L?", "");
        return type.startsWith("[") && name.endsWith(";") ? name.substring(0, name.length() - 1) : name;
    }

    private static Set<String> missing(Map<String, ClassNode> classes) {
        Set<String> missing = new TreeSet<>();
        for (ClassNode node : classes.values()) {
            for (MethodNode method : node.methods) {
                for (AbstractInsnNode at : method.instructions) {
                    String what = null;
                    if (at instanceof MethodInsnNode) {
                        MethodInsnNode call = (MethodInsnNode) at;
                        if (!call.owner.startsWith("[") && !has(classes, call.owner, call.name, call.desc, false)) what = call.owner + "." + call.name + call.desc;
                    } else if (at instanceof FieldInsnNode) {
                        FieldInsnNode use = (FieldInsnNode) at;
                        if (!has(classes, use.owner, use.name, use.desc, true)) what = use.owner + "." + use.name;
                    } else if (at instanceof TypeInsnNode) {
                        String type = element(((TypeInsnNode) at).desc);
                        if (type.startsWith("kotlin/") && !classes.containsKey(type)) what = type;
                    }
                    if (what != null) missing.add(node.name + "." + method.name + " needs " + what);
                }
            }
        }
        return missing;
    }

    private static int fill(ClassNode node, ClassNode whole) {
        Set<String> own = new HashSet<>();
        for (FieldNode f : node.fields) own.add(f.name + " " + f.desc);
        for (MethodNode m : node.methods) own.add(m.name + m.desc);
        int count = 0;
        for (FieldNode f : whole.fields) if (own.add(f.name + " " + f.desc) && node.fields.add(f)) ++count;
        for (MethodNode m : whole.methods) if (own.add(m.name + m.desc) && node.methods.add(m)) ++count;
        for (String parent : whole.interfaces) if (!node.interfaces.contains(parent)) node.interfaces.add(parent);
        if (!node.superName.equals(whole.superName)) throw new IllegalStateException(node.name + " has another parent in the library");
        node.access = whole.access;
        return count;
    }

    public static void main(String[] arguments) throws IOException {
        Map<String, ClassNode> shrunk = read(arguments[0]);
        Set<String> missing = missing(shrunk);
        missing.forEach(System.out::println);
        if (!missing.isEmpty()) System.exit(1);
        Map<String, ClassNode> library = read(arguments[1]);
        int kotlin = 0, filled = 0;
        try (OutputStream file = Files.newOutputStream(Path.of(arguments[2])); ZipOutputStream out = new ZipOutputStream(file)) {
            for (ClassNode node : shrunk.values()) {
                if (library.containsKey(node.name)) {
                    ++kotlin;
                    filled += fill(node, library.get(node.name));
                }
                ClassWriter writer = new ClassWriter(0);
                node.accept(writer);
                out.putNextEntry(new ZipEntry(node.name + ".class"));
                out.write(writer.toByteArray());
            }
        }
        System.out.println(kotlin + " classes of Kotlin, " + filled + " members filled in");
    }
}
