// Written by build_shaders.py from shaders/rms_norm.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Step
{
    uint step_[1];
};

struct Push
{
    uint cols;
    uint x_stride;
    uint y_stride;
    uint weight_at;
    uint cache;
    float eps;
};

struct X
{
    float x[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _85 = (THREADS / 2u);

struct Result
{
    uint result[1];
};

constant uint _195 = (THREADS / 2u);

struct Weight
{
    float weight[1];
};

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _305 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_305, 1u, 1u);

kernel void rms_norm(constant Push& p [[buffer(0)]], const device X& _58 [[buffer(2)]], device Y& _293 [[buffer(3)]], const device Weight& _281 [[buffer(4)]], const device Step& _26 [[buffer(5)]], device Result& _127 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup uint peaks[THREADS];
    threadgroup float sums[THREADS];
    do
    {
        if (gl_WorkGroupID.x >= _26.step_[0])
        {
            break;
        }
        uint _315;
        _315 = 0u;
        for (uint _314 = gl_LocalInvocationID.x; _314 < p.cols; )
        {
            _315 = max(_315, (as_type<uint>(_58.x[(gl_WorkGroupID.x * p.x_stride) + _314]) & 2147483647u));
            _314 += THREADS;
            continue;
        }
        peaks[gl_LocalInvocationID.x] = _315;
        for (uint _316 = _85; _316 >= 1u; _316 /= 2u)
        {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (gl_LocalInvocationID.x < _316)
            {
                peaks[gl_LocalInvocationID.x] = max(peaks[gl_LocalInvocationID.x], peaks[gl_LocalInvocationID.x + _316]);
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        bool _114 = gl_LocalInvocationID.x == 0u;
        bool _121;
        if (_114)
        {
            _121 = peaks[0] >= 2139095040u;
        }
        else
        {
            _121 = _114;
        }
        if (_121)
        {
            _127.result[0] = 1u;
        }
        uint _132 = peaks[0];
        float _133 = as_type<float>(_132);
        bool _137 = _133 > 999999986991104.0;
        bool _154;
        if (!_137)
        {
            _154 = ((p.eps == 0.0) && (_133 < 1.0000000036274937255387218471014e-15)) && (_133 > 0.0);
        }
        else
        {
            _154 = _137;
        }
        float _157 = _154 ? _133 : 1.0;
        float _318;
        _318 = 0.0;
        for (uint _317 = gl_LocalInvocationID.x; _317 < p.cols; )
        {
            float _180 = _58.x[(gl_WorkGroupID.x * p.x_stride) + _317] / _157;
            _318 = fma(_180, _180, _318);
            _317 += THREADS;
            continue;
        }
        sums[gl_LocalInvocationID.x] = _318;
        for (uint _319 = _195; _319 >= 1u; _319 /= 2u)
        {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (gl_LocalInvocationID.x < _319)
            {
                sums[gl_LocalInvocationID.x] = spvFAdd(sums[gl_LocalInvocationID.x], sums[gl_LocalInvocationID.x + _319]);
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float _238 = 1.0 / sqrt(spvFAdd(sums[0] / float(p.cols), (p.eps / _157) / _157));
        uint _320;
        if (p.cache != 0u)
        {
            _320 = _26.step_[1] + gl_WorkGroupID.x;
        }
        else
        {
            _320 = gl_WorkGroupID.x;
        }
        for (uint _321 = gl_LocalInvocationID.x; _321 < p.cols; )
        {
            _293.y[(_320 * p.y_stride) + _321] = spvFMul(spvFMul(_58.x[(gl_WorkGroupID.x * p.x_stride) + _321] / _157, _238), _281.weight[p.weight_at + _321]);
            _321 += THREADS;
            continue;
        }
        break;
    } while(false);
}

