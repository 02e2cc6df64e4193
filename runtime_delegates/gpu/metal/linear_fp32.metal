// Written by build_shaders.py from shaders/linear.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

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

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _303 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _306 = (THREADS * TOKENS);
constant uint _307 = (_306 * 4u);
constant uint _332 = (64u * TOKENS);
constant uint _369 = (64u * TOKENS);
constant bool _425 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint tiles_per_group;
    uint row_offset;
    uint rows;
    uint cols;
    uint x_stride;
    uint x_group;
    uint y_stride;
    uint y_group;
    uint bias_at;
    uint flags;
    float scale;
    uint residual_stride;
};

constant uint _495 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _596 = (TOKENS * 4u);
constant bool _628 = (TOKENS >= 4u);
constant bool _630 = (_628 && false);
constant int _631 = _630 ? 2 : 2;
constant uint _632 = (uint(_631) + 0u);
constant bool _688 = (TOKENS >= 4u);
constant bool _689 = (_688 && false);
constant int _690 = _689 ? 2 : 2;
constant uint _691 = (uint(_690) + 0u);

struct X
{
    float4 x[1];
};

constant bool _835 = (TOKENS >= 4u);
constant bool _836 = (_835 && false);
constant int _837 = _836 ? 2 : 2;
constant uint _838 = (uint(_837) + 0u);
constant uint _839 = (_838 * THREADS);

struct Bias
{
    float bias0[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _917 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_917, 1u, 1u);

kernel void linear_fp32(constant Push& p [[buffer(0)]], const device Weights& _128 [[buffer(1)]], const device X& _755 [[buffer(2)]], device Y& _521 [[buffer(3)]], const device Bias& _869 [[buffer(4)]], const device Step& _433 [[buffer(5)]], const device Residual& _893 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_307];
    threadgroup float chunk_sums[_369];
    do
    {
        uint _423 = gl_WorkGroupID.z * TOKENS;
        uint _1230;
        if (_425)
        {
            _1230 = 1u;
        }
        else
        {
            _1230 = _433.step_[0];
        }
        uint _1231;
        if ((p.flags & 2u) != 0u)
        {
            _1231 = _433.step_[2];
        }
        else
        {
            _1231 = 0u;
        }
        if (_423 >= _1230)
        {
            break;
        }
        uint _472 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _477 = _423 + (gl_LocalInvocationID.x / 8u);
        uint _488 = gl_WorkGroupID.y * p.y_group;
        uint _491 = ((_477 * p.y_stride) + _488) + _472;
        bool _496 = gl_LocalInvocationID.x < _495;
        bool _504;
        if (_496)
        {
            _504 = _472 < p.rows;
        }
        else
        {
            _504 = _496;
        }
        bool _507 = _477 < _1230;
        bool _508 = _504 && _507;
        if ((_423 + TOKENS) <= _1231)
        {
            if (_508)
            {
                _521.y[_491] = 0.0;
            }
            break;
        }
        uint _540 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1232 = 0u; _1232 < TOKENS; )
        {
            x_at[_1232] = ((_423 + _1232) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1232++;
            continue;
        }
        uint _572 = _1230 - _423;
        float acc[32];
        for (uint _1233 = 0u; _1233 < _596; )
        {
            acc[_1233] = 0.0;
            _1233++;
            continue;
        }
        uint _929 = ((p.cols + 3u) / 4u) * 2u;
        uint4 raw[2][4];
        float _1007[4];
        for (uint _1234 = gl_LocalInvocationID.x; _1234 < _929; _1234 += _839)
        {
            for (uint _1244 = 0u; _1244 < 2u; _1244++)
            {
                bool _633 = _1244 < _632;
                bool _642;
                if (_633)
                {
                    _642 = (_1234 + (_1244 * THREADS)) < _929;
                }
                else
                {
                    _642 = _633;
                }
                if (_642)
                {
                    uint _648 = _1234 + (_1244 * THREADS);
                    uint _936 = _648 >> uint(1);
                    uint _937 = _936 * 4u;
                    uint _944 = (_540 + (_936 * 8u)) + (_648 & 1u);
                    uint4 _1281;
                    if (_937 < p.cols)
                    {
                        _1281 = _128.weights[_944];
                    }
                    else
                    {
                        _1281 = uint4(0u);
                    }
                    uint4 _1392;
                    if ((_937 + 1u) < p.cols)
                    {
                        _1392 = _128.weights[_944 + 2u];
                    }
                    else
                    {
                        _1392 = uint4(0u);
                    }
                    uint4 _1410;
                    if ((_937 + 2u) < p.cols)
                    {
                        _1410 = _128.weights[_944 + 4u];
                    }
                    else
                    {
                        _1410 = uint4(0u);
                    }
                    uint4 _1428;
                    if ((_937 + 3u) < p.cols)
                    {
                        _1428 = _128.weights[_944 + 6u];
                    }
                    else
                    {
                        _1428 = uint4(0u);
                    }
                    uint4 _1587[4] = { _1281, _1392, _1410, _1428 };
                    spvArrayCopyFromStackToStack1(raw[_1244], _1587);
                }
            }
            for (uint _1245 = 0u; _1245 < 2u; _1245++)
            {
                uint _686 = _1234 + (_1245 * THREADS);
                if ((_1245 >= _691) || (_686 >= _929))
                {
                    continue;
                }
                float4 _1596[4] = { float4(as_type<float>(raw[_1245][0].x), as_type<float>(raw[_1245][1].x), as_type<float>(raw[_1245][2].x), as_type<float>(raw[_1245][3].x)), float4(as_type<float>(raw[_1245][0].y), as_type<float>(raw[_1245][1].y), as_type<float>(raw[_1245][2].y), as_type<float>(raw[_1245][3].y)), float4(as_type<float>(raw[_1245][0].z), as_type<float>(raw[_1245][1].z), as_type<float>(raw[_1245][2].z), as_type<float>(raw[_1245][3].z)), float4(as_type<float>(raw[_1245][0].w), as_type<float>(raw[_1245][1].w), as_type<float>(raw[_1245][2].w), as_type<float>(raw[_1245][3].w)) };
                for (uint _1249 = 0u; _1249 < TOKENS; _1249 += 4u)
                {
                    if ((_1249 != 0u) && (_1249 >= _572))
                    {
                        continue;
                    }
                    for (uint _1250 = _1249; _1250 < (_1249 + 4u); _1250++)
                    {
                        if (_1250 >= TOKENS)
                        {
                            continue;
                        }
                        uint _764 = x_at[_1250] + (_686 >> uint(1));
                        float4 _1005[4];
                        spvArrayCopyFromStackToStack1(_1005, _1596);
                        for (uint _1253 = 0u; _1253 < 4u; )
                        {
                            _1007[_1253] = fma(_1005[_1253].w, _755.x[_764].w, fma(_1005[_1253].z, _755.x[_764].z, fma(_1005[_1253].y, _755.x[_764].y, spvFMul(_1005[_1253].x, _755.x[_764].x))));
                            _1253++;
                            continue;
                        }
                        uint _800 = _1250 * 4u;
                        acc[_800] = spvFAdd(acc[_800], _1007[0]);
                        uint _1501 = _800 + 1u;
                        acc[_1501] += _1007[1];
                        uint _1526 = _800 + 2u;
                        acc[_1526] += _1007[2];
                        uint _1551 = _800 + 3u;
                        acc[_1551] += _1007[3];
                    }
                }
            }
        }
        float param[32];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1235 = 0u; _1235 < _303; )
        {
            partial[(_1235 * THREADS) + gl_LocalInvocationID.x] = param[_1235];
            _1235++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1236 = gl_LocalInvocationID.x; _1236 < _332; _1236 += THREADS)
        {
            uint _1156 = (((_1236 / 16u) * THREADS) + ((_1236 / 8u) % 2u)) + (2u * (_1236 % 8u));
            float _1243;
            _1243 = partial[_1156];
            for (uint _1241 = 16u; _1241 < THREADS; )
            {
                _1243 = spvFAdd(_1243, partial[_1156 + _1241]);
                _1241 += 16u;
                continue;
            }
            chunk_sums[_1236] = _1243;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_508)
        {
            break;
        }
        uint _854 = gl_LocalInvocationID.x % 8u;
        uint _1197 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_854 % 4u)) * 2u) + (_854 / 4u)) * 8u;
        float _859 = spvFMul((((((spvFAdd(chunk_sums[_1197], chunk_sums[_1197 + 1u]) + chunk_sums[_1197 + 2u]) + chunk_sums[_1197 + 3u]) + chunk_sums[_1197 + 4u]) + chunk_sums[_1197 + 5u]) + chunk_sums[_1197 + 6u]) + chunk_sums[_1197 + 7u], spvFMul(p.scale, 1.0));
        float _1239;
        if ((p.flags & 1u) != 0u)
        {
            _1239 = spvFAdd(_859, _869.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _472]);
        }
        else
        {
            _1239 = _859;
        }
        float _1240;
        if ((p.flags & 4u) != 0u)
        {
            _1240 = spvFAdd(_1239, _893.residual[((_477 * p.residual_stride) + _488) + _472]);
        }
        else
        {
            _1240 = _1239;
        }
        _521.y[_491] = (_477 < _1231) ? 0.0 : _1240;
        break;
    } while(false);
}

