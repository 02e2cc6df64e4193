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
constant uint _278 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _281 = (THREADS * TOKENS);
constant uint _282 = (_281 * 4u);
constant uint _298 = (THREADS / 2u);
constant uint _319 = (TOKENS * 4u);

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
};

constant uint _439 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _527 = (TOKENS * 4u);
constant bool _560 = (TOKENS >= 4u);
constant bool _562 = (_560 && false);
constant int _563 = _562 ? 2 : 2;
constant uint _564 = (uint(_563) + 0u);
constant bool _611 = (TOKENS >= 4u);
constant bool _612 = (_611 && false);
constant int _613 = _612 ? 2 : 2;
constant uint _614 = (uint(_613) + 0u);

struct X
{
    float4 x[1];
};

constant bool _734 = (TOKENS >= 4u);
constant bool _735 = (_734 && false);
constant int _736 = _735 ? 2 : 2;
constant uint _737 = (uint(_736) + 0u);
constant uint _738 = (_737 * THREADS);

struct Bias
{
    float bias0[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _799 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_799, 1u, 1u);

kernel void linear_fp32(constant Push& p [[buffer(0)]], const device Weights& _116 [[buffer(1)]], const device X& _677 [[buffer(2)]], device Y& _465 [[buffer(3)]], const device Bias& _777 [[buffer(4)]], const device Step& _377 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_282];
    do
    {
        uint _372 = gl_WorkGroupID.z * TOKENS;
        uint _380 = _377.step_[0];
        uint _1082;
        if ((p.flags & 2u) != 0u)
        {
            _1082 = _377.step_[2];
        }
        else
        {
            _1082 = 0u;
        }
        if (_372 >= _380)
        {
            break;
        }
        uint _416 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _421 = _372 + (gl_LocalInvocationID.x / 8u);
        uint _435 = ((_421 * p.y_stride) + (gl_WorkGroupID.y * p.y_group)) + _416;
        bool _440 = gl_LocalInvocationID.x < _439;
        bool _448;
        if (_440)
        {
            _448 = _416 < p.rows;
        }
        else
        {
            _448 = _440;
        }
        bool _452 = _448 && (_421 < _380);
        if ((_372 + TOKENS) <= _1082)
        {
            if (_452)
            {
                _465.y[_435] = 0.0;
            }
            break;
        }
        uint _484 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1083 = 0u; _1083 < TOKENS; )
        {
            x_at[_1083] = (min((_372 + _1083), (_380 - 1u)) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1083++;
            continue;
        }
        uint _519 = _380 - _372;
        float acc[32];
        for (uint _1084 = 0u; _1084 < _527; )
        {
            acc[_1084] = 0.0;
            _1084++;
            continue;
        }
        uint _810 = ((p.cols + 3u) / 4u) * 2u;
        uint4 raw[2][4];
        float param_1[4];
        for (uint _1085 = gl_LocalInvocationID.x; _1085 < _810; _1085 += _738)
        {
            for (uint _1092 = 0u; _1092 < 2u; _1092++)
            {
                bool _565 = _1092 < _564;
                bool _574;
                if (_565)
                {
                    _574 = (_1085 + (_1092 * THREADS)) < _810;
                }
                else
                {
                    _574 = _565;
                }
                if (_574)
                {
                    uint _580 = _1085 + (_1092 * THREADS);
                    uint _817 = _580 >> uint(1);
                    uint _818 = _817 * 4u;
                    uint _825 = (_484 + (_817 * 8u)) + (_580 & 1u);
                    uint4 _1126;
                    if (_818 < p.cols)
                    {
                        _1126 = _116.weights[_825];
                    }
                    else
                    {
                        _1126 = uint4(0u);
                    }
                    uint4 _1163;
                    if ((_818 + 1u) < p.cols)
                    {
                        _1163 = _116.weights[_825 + 2u];
                    }
                    else
                    {
                        _1163 = uint4(0u);
                    }
                    uint4 _1181;
                    if ((_818 + 2u) < p.cols)
                    {
                        _1181 = _116.weights[_825 + 4u];
                    }
                    else
                    {
                        _1181 = uint4(0u);
                    }
                    uint4 _1199;
                    if ((_818 + 3u) < p.cols)
                    {
                        _1199 = _116.weights[_825 + 6u];
                    }
                    else
                    {
                        _1199 = uint4(0u);
                    }
                    uint4 _1327[4] = { _1126, _1163, _1181, _1199 };
                    spvArrayCopyFromStackToStack1(raw[_1092], _1327);
                }
            }
            for (uint _1093 = 0u; _1093 < 2u; _1093++)
            {
                uint _609 = _1085 + (_1093 * THREADS);
                if ((_1093 >= _614) || (_609 >= _810))
                {
                    continue;
                }
                float4 _1336[4] = { float4(as_type<float>(raw[_1093][0].x), as_type<float>(raw[_1093][1].x), as_type<float>(raw[_1093][2].x), as_type<float>(raw[_1093][3].x)), float4(as_type<float>(raw[_1093][0].y), as_type<float>(raw[_1093][1].y), as_type<float>(raw[_1093][2].y), as_type<float>(raw[_1093][3].y)), float4(as_type<float>(raw[_1093][0].z), as_type<float>(raw[_1093][1].z), as_type<float>(raw[_1093][2].z), as_type<float>(raw[_1093][3].z)), float4(as_type<float>(raw[_1093][0].w), as_type<float>(raw[_1093][1].w), as_type<float>(raw[_1093][2].w), as_type<float>(raw[_1093][3].w)) };
                for (uint _1097 = 0u; _1097 < TOKENS; _1097 += 4u)
                {
                    if ((_1097 != 0u) && (_1097 >= _519))
                    {
                        continue;
                    }
                    for (uint _1098 = _1097; _1098 < (_1097 + 4u); _1098++)
                    {
                        if (_1098 >= TOKENS)
                        {
                            continue;
                        }
                        uint _686 = x_at[_1098] + (_609 >> uint(1));
                        float4 param[4];
                        spvArrayCopyFromStackToStack1(param, _1336);
                        for (uint _1101 = 0u; _1101 < 4u; )
                        {
                            param_1[_1101] = fma(param[_1101].w, _677.x[_686].w, fma(param[_1101].z, _677.x[_686].z, fma(param[_1101].y, _677.x[_686].y, spvFMul(param[_1101].x, _677.x[_686].x))));
                            _1101++;
                            continue;
                        }
                        uint _711 = _1098 * 4u;
                        acc[_711] = spvFAdd(acc[_711], param_1[0]);
                        uint _1272 = _711 + 1u;
                        acc[_1272] += param_1[1];
                        uint _1289 = _711 + 2u;
                        acc[_1289] += param_1[2];
                        uint _1306 = _711 + 3u;
                        acc[_1306] += param_1[3];
                    }
                }
            }
        }
        float param_2[32];
        spvArrayCopyFromStackToStack1(param_2, acc);
        for (uint _1086 = 0u; _1086 < _278; )
        {
            partial[(_1086 * THREADS) + gl_LocalInvocationID.x] = param_2[_1086];
            _1086++;
            continue;
        }
        uint _1087;
        _1087 = _298;
        for (; _1087 >= 2u; _1087 /= 2u)
        {
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (gl_LocalInvocationID.x < _1087)
            {
                for (uint _1089 = 0u; _1089 < _319; )
                {
                    uint _1028 = (_1089 * THREADS) + gl_LocalInvocationID.x;
                    partial[_1028] = spvFAdd(partial[_1028], partial[_1028 + _1087]);
                    _1089++;
                    continue;
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_452)
        {
            break;
        }
        uint _753 = gl_LocalInvocationID.x % 8u;
        float _767 = spvFMul(partial[((((gl_LocalInvocationID.x / 8u) * 4u) + (_753 % 4u)) * THREADS) + (_753 / 4u)], p.scale);
        float _1088;
        if ((p.flags & 1u) != 0u)
        {
            _1088 = spvFAdd(_767, _777.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _416]);
        }
        else
        {
            _1088 = _767;
        }
        _465.y[_435] = (_421 < _1082) ? 0.0 : _1088;
        break;
    } while(false);
}

