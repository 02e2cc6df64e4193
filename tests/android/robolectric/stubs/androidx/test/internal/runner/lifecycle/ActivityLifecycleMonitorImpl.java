package androidx.test.internal.runner.lifecycle;

import android.app.Activity;
import androidx.test.runner.lifecycle.*;
import java.util.*;

public final class ActivityLifecycleMonitorImpl implements ActivityLifecycleMonitor {
    private final Map<Activity, Stage> stages = new WeakHashMap<>();
    private final List<ActivityLifecycleCallback> callbacks = new ArrayList<>();

    public synchronized void addLifecycleCallback(ActivityLifecycleCallback callback) {
        callbacks.add(callback);
    }

    public synchronized void removeLifecycleCallback(ActivityLifecycleCallback callback) {
        callbacks.remove(callback);
    }

    public synchronized Stage getLifecycleStageOf(Activity activity) {
        return stages.get(activity);
    }

    public synchronized Collection<Activity> getActivitiesInStage(Stage stage) {
        List<Activity> found = new ArrayList<>();
        for (Map.Entry<Activity, Stage> entry : stages.entrySet()) if (entry.getValue() == stage) found.add(entry.getKey());
        return found;
    }

    public void signalLifecycleChange(Stage stage, Activity activity) {
        List<ActivityLifecycleCallback> copy;
        synchronized (this) {
            stages.put(activity, stage);
            copy = new ArrayList<>(callbacks);
        }
        for (ActivityLifecycleCallback callback : copy) callback.onActivityLifecycleChanged(activity, stage);
    }
}
