// Written by build_shaders.py from shaders/heads.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

struct Step
{
    uint step_[1];
};

struct Push
{
    uint plain;
    uint rope;
    uint x_stride;
    uint x_head;
    uint y_stride;
    uint y_head;
    uint y_at;
    uint z_stride;
    uint z_head;
    uint z_at;
    uint cache;
    uint table;
    uint x_at;
};

struct Z
{
    float z[1];
};

struct X
{
    float x[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _234 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_234, 1u, 1u);

kernel void heads(constant Push& p [[buffer(0)]], const device X& _129 [[buffer(2)]], device Y& _223 [[buffer(3)]], device Z& _108 [[buffer(4)]], const device Step& _30 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    do
    {
        if (gl_WorkGroupID.x >= _30.step_[0])
        {
            break;
        }
        uint _243;
        if (p.cache != 0u)
        {
            _243 = _30.step_[1] + gl_WorkGroupID.x;
        }
        else
        {
            _243 = gl_WorkGroupID.x;
        }
        uint _76 = ((gl_WorkGroupID.x * p.x_stride) + (gl_WorkGroupID.y * p.x_head)) + p.x_at;
        uint _81 = p.rope / 2u;
        uint _92 = (272u + p.table) + (gl_WorkGroupID.x * p.rope);
        for (uint _244 = gl_LocalInvocationID.x; _244 < p.plain; )
        {
            _108.z[(((_243 * p.z_stride) + (gl_WorkGroupID.y * p.z_head)) + p.z_at) + _244] = _129.x[_76 + _244];
            _244 += THREADS;
            continue;
        }
        for (uint _245 = gl_LocalInvocationID.x; _245 < _81; )
        {
            uint _157 = (_76 + p.plain) + _245;
            float _159 = _129.x[_157];
            uint _168 = _157 + _81;
            float _170 = _129.x[_168];
            uint _176 = _30.step_[_92 + _245];
            float _177 = as_type<float>(_176);
            uint _185 = _30.step_[(_92 + _81) + _245];
            float _186 = as_type<float>(_185);
            uint _219 = (((_243 * p.y_stride) + (gl_WorkGroupID.y * p.y_head)) + p.y_at) + _245;
            _223.y[_219] = fma(_159, _177, -spvFMul(_170, _186));
            _223.y[_219 + _81] = fma(_170, _177, spvFMul(_159, _186));
            _245 += THREADS;
            continue;
        }
        break;
    } while(false);
}

